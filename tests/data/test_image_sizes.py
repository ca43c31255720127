"""How many pixels an image claims: read from its header, and too many are refused before memory is taken for them."""

import io
import json
import struct
import subprocess
import sys
import zlib

import pytest
from PIL import Image

from gluon_aff.data.image_files import read_image
from gluon_aff.data.image_formats import MOST_PIXELS
from gluon_aff.data.image_headers import chunks_fit, claimed_size
from gluon_aff.data.imagenet.images import decode, naming
from gluon_aff.errors import DataError, InputError

SIZE = 40, 30
MANY = 32768, 32768  # 2^30
MOST_OF_WEBP = 16383, 16383  # that a frame's header holds
TOO_MANY = "it has more than 134,217,728 pixels: make it smaller"
MIB_ALLOWED = 50
MARKS = {"<": b"II", ">": b"MM"}


def encoded(kind, mode="RGB", **options):
    file = io.BytesIO()
    Image.new(mode, SIZE).save(file, kind, **options)
    return file.getvalue()


def patched(content, place, layout, *values):
    content = bytearray(content)
    struct.pack_into(layout, content, place, *values)
    return bytes(content)


def jpeg(size, **options):
    content = encoded("JPEG", **options)
    frame = content.index(b"\xff\xc2" if options.get("progressive") else b"\xff\xc0")
    return patched(content, frame + 5, ">2H", *size[::-1])


def jpeg_behind_other_marks(size):
    """A thumbnail's own frame lies in a segment, and between segments lie filling bytes and a restart marker."""
    content = jpeg(size)
    thumbnail = b"Exif\0\0" + jpeg((8, 6))
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    return content[:2] + segment + b"\xff\xff\xff\xd0\xff\0junk" + content[2:]


def png(size):
    content = patched(encoded("PNG"), 16, ">2I", *size)
    return patched(content, 29, ">I", zlib.crc32(content[12:29]))


def bmp(size):
    return patched(encoded("BMP"), 18, "<2i", *size)


def bmp_from_the_top(size):
    return patched(encoded("BMP"), 18, "<2i", size[0], -size[1])


def bmp_of_1990(size):
    header = b"BM" + struct.pack("<IHHI", 0, 0, 0, 26) + struct.pack("<I4H", 12, *size, 1, 24)
    return header + bytes(SIZE[0] * SIZE[1] * 3)


def webp(size):
    content = encoded("WEBP", quality=80)
    return patched(content, content.index(b"\x9d\x01\x2a") + 3, "<2H", *size)


def lossless_webp(size):
    content = encoded("WEBP", lossless=True)
    place = content.index(b"VP8L") + 9
    (bits,) = struct.unpack_from("<I", content, place)
    return patched(content, place, "<I", bits >> 28 << 28 | size[1] - 1 << 14 | size[0] - 1)


def webp_with_canvas(size):
    sides = b"".join((side - 1).to_bytes(3, "little") for side in size)
    body = b"WEBP" + b"VP8X" + struct.pack("<II", 10, 0) + sides + encoded("WEBP", lossless=True)[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def tiff(size, **options):
    content = encoded("TIFF", **options)
    (place,) = struct.unpack_from("<I", content, 4)
    for entry in range(struct.unpack_from("<H", content, place)[0]):
        start = place + 2 + 12 * entry
        (tag,) = struct.unpack_from("<H", content, start)
        if tag in (256, 257, 278):  # width, height, rows per strip
            content = patched(content, start + 2, "<HII", 4, 1, size[tag != 256])
    return content


def grey_tiff(size, order, large):
    """One of its own making: Pillow writes the small end first and nothing large."""
    integer, kind = ("Q", 16) if large else ("I", 4)
    tags = [(256, size[0]), (257, size[1]), (258, 8), (259, 1), (262, 1), (273, 250), (277, 1), (278, size[1])]
    tags.append((279, SIZE[0] * SIZE[1]))
    head = struct.pack(f"{order}2s3HQ", MARKS[order], 43, 8, 0, 16) if large else b""
    head = head or struct.pack(f"{order}2sHI", MARKS[order], 42, 8)
    directory = struct.pack(f"{order}{'Q' if large else 'H'}", len(tags))
    for tag, value in tags:
        short = not large and value < 1 << 16
        value = struct.pack(f"{order}{'H' if short else integer}", value)
        directory += struct.pack(f"{order}2H{integer}", tag, 3 if short else kind, 1) + value.ljust(4, b"\0")
    return (head + directory + bytes(8)).ljust(250, b"\0") + bytes(SIZE[0] * SIZE[1])


def ppm(size):
    return b"P6 # of 9 x 9 or so\r%d\n#\n%d 255\n" % size + bytes(SIZE[0] * SIZE[1] * 3)


def gif(size):
    return patched(encoded("GIF", "P"), 6, "<2H", *size)


CLAIMING = {
    "JPEG": jpeg,
    "progressive JPEG": lambda size: jpeg(size, progressive=True),
    "JPEG behind other marks": jpeg_behind_other_marks,
    "PNG": png,
    "BMP": bmp,
    "BMP from the top": bmp_from_the_top,
    "BMP of 1990": bmp_of_1990,
    "WebP": webp,
    "lossless WebP": lossless_webp,
    "WebP with a canvas": webp_with_canvas,
    "TIFF": lambda size: tiff(size, dpi=(72, 72)),
    "packed TIFF": lambda size: tiff(size, compression="tiff_lzw"),
    "TIFF, big end first": lambda size: grey_tiff(size, ">", large=False),
    "BigTIFF": lambda size: grey_tiff(size, "<", large=True),
    "PPM": ppm,
}


@pytest.mark.parametrize("kind", CLAIMING)
def test_the_size_in_the_header_is_that_of_the_pixels(kind, tmp_path):
    content = CLAIMING[kind](SIZE)
    assert claimed_size(content) == SIZE
    assert decode(content, upright=True).shape == (*SIZE[::-1], 3)
    (tmp_path / "x").write_bytes(content)
    assert read_image(str(tmp_path / "x")).size == SIZE


@pytest.mark.parametrize("kind", CLAIMING)
def test_a_header_that_is_cut_short_has_no_size(kind):
    content = CLAIMING[kind](SIZE)
    whole = next(end for end in range(len(content)) if claimed_size(content[:end]))
    assert 10 < whole < len(content)
    assert {claimed_size(content[:end]) for end in range(whole)} == {None}
    with pytest.raises(
        DataError, match=r"no image that OpenCV can decode|cut short or damaged|does not say how many pixels"
    ):
        decode(content[: whole - 1], upright=True)


CHILD = """
import json, resource, sys
from gluon_aff.data.image_files import read_image
from gluon_aff.data.imagenet.images import decode, naming, opencv
from gluon_aff.errors import InputError

def most(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

opencv()
found = {}
for path in sys.argv[1:]:
    for read in (read_image, lambda path: decode(open(path, "rb").read(), True)):
        before = most()
        try:
            with naming(path):
                read(path)
        except InputError as error:
            found.setdefault(path, []).append([str(error), most() - before])
print(json.dumps(found))
"""


def test_a_header_that_claims_a_billion_pixels_takes_no_memory(tmp_path):
    """Within 50 MB; to decode takes 3 to 12 GB, however short the file is."""
    sizes = {"WebP": MOST_OF_WEBP, "lossless WebP": MOST_OF_WEBP}
    files = {tmp_path / kind: make(sizes.get(kind, MANY)) for kind, make in {**CLAIMING, "GIF": gif}.items()}
    for path, content in files.items():
        path.write_bytes(content)
    out = subprocess.run([sys.executable, "-c", CHILD, *files], check=True, capture_output=True, timeout=120).stdout
    for path, ((by_pillow, kib), (by_opencv, more_kib)) in json.loads(out).items():
        assert max(kib, more_kib) < MIB_ALLOWED << 10, path
        assert by_pillow.startswith(f"{path} cannot be read"), by_pillow
        assert f"({TOO_MANY}" in by_pillow, by_pillow
        assert by_opencv.startswith(f"{path} cannot be read ({TOO_MANY}") or path.endswith("GIF"), by_opencv
    assert len(json.loads(out)) == len(files)


def png_with_a_chunk_of(length):
    content = encoded("PNG")
    return patched(content, content.index(b"IDAT") - 4, ">I", length)


CHUNKS = {
    "2 GB": png_with_a_chunk_of(2**31 - 1),
    "4 GB": png_with_a_chunk_of(2**32 - 1),
    "a length alone": encoded("PNG")[:-12] + b"\xee\0\0\0",
}


@pytest.mark.parametrize("chunk", CHUNKS)
def test_a_chunk_that_claims_gigabytes_takes_no_memory(chunk, tmp_path):
    """Each made OpenCV take as much, for some seconds."""
    assert not chunks_fit(CHUNKS[chunk])
    (tmp_path / "x.png").write_bytes(CHUNKS[chunk])
    command = [sys.executable, "-c", CHILD, tmp_path / "x.png"]
    out = subprocess.run(command, check=True, capture_output=True, timeout=120).stdout
    ((*_, (by_opencv, kib)),) = json.loads(out).values()  # Pillow reads as far as it needs
    assert "it is cut short or damaged" in by_opencv
    assert kib < MIB_ALLOWED << 10


def test_markers_of_jpeg_are_those_of_the_standard():
    """Of C0 to CF, three begin no frame (C4: Huffman tables, C8: reserved, CC: arithmetic coding); some stand alone."""
    content = jpeg(SIZE)
    place = content.index(b"\xff\xc0") + 1
    for marker in range(0xC0, 0xD0):
        expected = None if marker in (0xC4, 0xC8, 0xCC) else SIZE
        assert claimed_size(patched(content, place, "B", marker)) == expected
    for marker in (0x00, 0x01, *range(0xD0, 0xD8)):
        assert claimed_size(content[:2] + bytes([0xFF, marker]) + content[2:]) == SIZE


@pytest.mark.parametrize("large", [False, True])
def test_integers_of_tiff_are_those_of_the_standard(large):
    """Of 1, 2, 4 and 8 bytes, without a sign and with one; a fraction, kind 5, is no size."""
    kinds = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", **({16: "Q", 17: "q"} if large else {})}
    for kind, code in {**kinds, 5: "I"}.items():
        content = b"MM" + (struct.pack(">3HQQ", 43, 8, 0, 16, 2) if large else struct.pack(">HIH", 42, 8, 2))
        for tag, side in zip((256, 257), SIZE):
            content += struct.pack(">2HQ" if large else ">2HI", tag, kind, 1)
            content += struct.pack(f">{code}", side).ljust(8 if large else 4, b"\0")
        assert claimed_size(content + bytes(8)) == (SIZE if kind != 5 else None)


def test_sizes_at_the_bounds_of_headers():
    assert claimed_size(webp_with_canvas(SIZE)[:30]) == SIZE
    assert claimed_size(webp_with_canvas(SIZE)[:29]) is None
    for length, size in ((36, SIZE), (35, None)):
        assert claimed_size(patched(bmp(SIZE), 14, "<I", length)) == size
    for end_of_the_header in (b"\xff\xd9", b"\xff\xda"):
        assert claimed_size(b"\xff\xd8" + end_of_the_header + b"\0\2" + jpeg(SIZE)[2:]) is None
    assert claimed_size(patched(grey_tiff(SIZE, "<", large=True), 8, "<Q", 2**64 - 1)) is None
    for end, fit in ((0, True), (1, False)):
        before_the_last_chunk = encoded("PNG")[: -12 - end]
        assert chunks_fit(before_the_last_chunk) == fit


def test_what_follows_the_end_of_a_png_file_does_not_matter():
    assert decode(encoded("PNG") + b"\xff" * 20, upright=True).shape == (*SIZE[::-1], 3)


def test_up_to_the_bound_an_image_is_not_refused_for_its_size(tmp_path):
    (tmp_path / "x.bmp").write_bytes(bmp((1 << 14, MOST_PIXELS >> 14)))
    for read in (lambda path: read_image(str(path)), lambda path: decode(path.read_bytes(), upright=True)):
        with pytest.raises(InputError) as caught, naming("x"):
            read(tmp_path / "x.bmp")
        assert TOO_MANY not in str(caught.value)
