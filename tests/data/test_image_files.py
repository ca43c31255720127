"""Image files of many kinds."""

import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFile

import gluon_aff
from gluon_aff.data.image_files import read_image
from gluon_aff.data.imagenet.images import decode
from gluon_aff.errors import DataError, InputError

RED = (250, 10, 20)


def animation(path):
    frames = [Image.new("P", (40, 30)), Image.new("P", (40, 30))]
    for frame, colour in zip(frames, (RED, (0, 0, 0))):
        frame.putpalette([*colour] * 256)
    frames[0].save(path, save_all=True, append_images=frames[1:])


def palette_with_alpha(path):
    image = Image.new("P", (40, 30), 1)
    image.putpalette([0, 0, 0, *RED])
    image.save(path, transparency=bytes([0, 255]))


KINDS = {
    "rgb.png": lambda p: Image.new("RGB", (40, 30), RED).save(p),
    "rgb.bmp": lambda p: Image.new("RGB", (40, 30), RED).save(p),
    "rgb.tiff": lambda p: Image.new("RGB", (40, 30), RED).save(p),
    "rgb.webp": lambda p: Image.new("RGB", (40, 30), RED).save(p, lossless=True),
    "jpeg without extension": lambda p: Image.new("RGB", (40, 30), RED).save(p, "JPEG", quality=100, subsampling=0),
    "palette.gif": lambda p: Image.new("RGB", (40, 30), RED).quantize().save(p),
    "palette.png": palette_with_alpha,
    "animation.gif": animation,
    "opaque.png": lambda p: Image.new("RGBA", (40, 30), (*RED, 255)).save(p),
    "cmyk.tiff": lambda p: Image.new("CMYK", (40, 30), (5, 245, 235, 0)).save(p),
    "cmyk.jpg": lambda p: Image.new("CMYK", (40, 30), (5, 245, 235, 0)).save(p, quality=100),
}


@pytest.mark.parametrize("name", KINDS)
def test_formats(tmp_path, name):
    KINDS[name](tmp_path / name)
    image = read_image(str(tmp_path / name))
    assert (image.mode, image.size) == ("RGB", (40, 30))
    np.testing.assert_allclose(np.asarray(image), np.broadcast_to(RED, (30, 40, 3)), atol=3)


def encoded_by_opencv(pixels, ending):
    return lambda p: p.write_bytes(cv2.imencode(ending, pixels)[1].tobytes())


NOISE = np.random.default_rng(0).integers(0, 256, (24, 20, 4), np.uint8)
NOISE16 = (NOISE.astype(np.uint16) << 8) + NOISE[::-1]  # whose lower byte is another than the upper
COLOURS, WITH_ALPHA, GREY = (
    Image.fromarray(np.ascontiguousarray(part)) for part in (NOISE[..., :3], NOISE, NOISE[..., 0])
)
GREY_ALPHA = Image.merge("LA", (GREY, WITH_ALPHA.getchannel("A")))
PALETTE = COLOURS.quantize(16)
SOFT = COLOURS.resize((80, 90), Image.Resampling.BICUBIC)

# Every kind of pixels that both readers take, and how far they may be apart.
PIXELS = {
    "colours.png": (COLOURS.save, 0),
    "alpha.png": (WITH_ALPHA.save, 0),
    "grey.png": (GREY.save, 0),
    "grey, alpha.png": (GREY_ALPHA.save, 0),
    "one bit.png": (GREY.convert("1").save, 0),
    "palette.png": (PALETTE.save, 0),
    "palette of 4 bits.png": (lambda p: PALETTE.save(p, bits=4), 0),
    "palette, alpha.png": (lambda p: PALETTE.save(p, transparency=bytes(range(0, 256, 16))), 0),
    "palette, a colour transparent.png": (lambda p: PALETTE.save(p, transparency=3), 0),
    "a colour transparent.png": (lambda p: COLOURS.save(p, transparency=COLOURS.getpixel((0, 0))), 0),
    "a grey transparent.png": (lambda p: GREY.save(p, transparency=GREY.getpixel((0, 0))), 0),
    "grey of 16 bits.png": (Image.fromarray(NOISE16[..., 0]).save, 0),
    "colours of 16 bits.png": (encoded_by_opencv(NOISE16[..., :3], ".png"), 0),
    "alpha of 16 bits.png": (encoded_by_opencv(NOISE16, ".png"), 0),
    "colours.bmp": (COLOURS.save, 0),
    "grey.bmp": (GREY.save, 0),
    "one bit.bmp": (GREY.convert("1").save, 0),
    "palette.bmp": (PALETTE.save, 0),
    "alpha.bmp": (encoded_by_opencv(NOISE, ".bmp"), 0),
    "colours.webp": (lambda p: COLOURS.save(p, quality=80), 0),
    "lossless.webp": (lambda p: COLOURS.save(p, lossless=True), 0),
    "alpha.webp": (lambda p: WITH_ALPHA.save(p, quality=80), 0),
    "alpha, lossless.webp": (lambda p: WITH_ALPHA.save(p, lossless=True, exact=True), 0),
    "colours.tiff": (COLOURS.save, 0),
    "packed.tiff": (lambda p: COLOURS.save(p, compression="tiff_lzw"), 0),
    "alpha.tiff": (WITH_ALPHA.save, 0),
    "alpha, packed.tiff": (lambda p: WITH_ALPHA.save(p, compression="tiff_lzw"), 0),
    "alpha of 16 bits.tiff": (encoded_by_opencv(NOISE16, ".tiff"), 1),
    "grey.tiff": (GREY.save, 0),
    "grey, alpha.tiff": (GREY_ALPHA.save, 0),
    "one bit.tiff": (GREY.convert("1").save, 0),
    "palette.tiff": (PALETTE.save, 0),
    "cmyk.tiff": (COLOURS.convert("CMYK").save, 0),
    "ycbcr.tiff": (COLOURS.convert("YCbCr").save, 1),
    "grey of 16 bits.tiff": (Image.fromarray(NOISE16[..., 0]).save, 0),
    "grey of 16 bits, big end first.tiff": (
        lambda p: Image.frombytes("I;16B", (20, 24), NOISE16[..., 0].astype(">u2").tobytes()).save(p),
        0,
    ),
    "colours of 16 bits.tiff": (encoded_by_opencv(NOISE16[..., :3], ".tiff"), 1),
    "colours.ppm": (COLOURS.save, 0),
    "grey.pgm": (GREY.save, 0),
    "one bit.pbm": (GREY.convert("1").save, 0),
    "grey of 16 bits.pgm": (lambda p: p.write_bytes(b"P5 20 24 65535\n" + NOISE16[..., 0].astype(">u2").tobytes()), 0),
    "colours of 16 bits.ppm": (
        lambda p: p.write_bytes(b"P6 # of 16 bits\n20 24\n65535\n" + NOISE16[..., :3].astype(">u2").tobytes()),
        1,
    ),
    "colours.jpg": (lambda p: SOFT.save(p, quality=90), 0),
    "halved colours, progressive.jpg": (lambda p: SOFT.save(p, quality=70, subsampling=2, progressive=True), 0),
    "grey.jpg": (SOFT.convert("L").save, 0),
    "cmyk.jpg": (SOFT.convert("CMYK").save, 1),
}


@pytest.mark.parametrize("name", PIXELS)
def test_predict_sees_the_pixels_that_training_and_validation_see(tmp_path, name):
    write, apart = PIXELS[name]
    path = tmp_path / name
    write(path)
    seen = decode(path.read_bytes(), upright=True)[..., ::-1]
    np.testing.assert_allclose(np.asarray(read_image(str(path))).astype(int), seen, rtol=0, atol=apart)


# (what both readers make of a pixel, rule): of 16 bits the upper 8; alpha is dropped, and hidden pixels are seen.
SPELT_OUT = {
    "16 bits.png": (lambda p: Image.fromarray(np.full((3, 4), 100 * 256 + 255, np.uint16)).save(p), 100),
    "hidden.png": (lambda p: Image.new("RGBA", (4, 3), (100, 100, 100, 0)).save(p), 100),
    "cut out.png": (lambda p: Image.new("RGBA", (4, 3), (0, 0, 0, 0)).save(p), 0),
    "hidden.tiff": (lambda p: Image.new("RGBA", (4, 3), (100, 100, 100, 0)).save(p), 0),
    "hidden.gif": (lambda p: Image.new("P", (4, 3), 1).save(p, transparency=1), None),
}


@pytest.mark.parametrize("name", SPELT_OUT)
def test_what_becomes_of_16_bits_and_of_hidden_pixels(tmp_path, name):
    write, value = SPELT_OUT[name]
    write(tmp_path / name)
    assert (np.unique(np.asarray(read_image(str(tmp_path / name)))) == value).all() or value is None


def of_levels(highest):
    return lambda p: p.write_bytes(b"P5 # grey\n4 3\n%d\n" % highest + bytes(12 if highest < 256 else 24))


REFUSED = {
    "float.tiff": (lambda p: Image.fromarray(np.zeros((3, 4), np.float32)).save(p), "save it with 8 or 16 bits"),
    "32 bits.tiff": (lambda p: Image.fromarray(np.full((3, 4), 70000, np.int32)).save(p), "save it with 8 or 16 bits"),
    "100 levels.pgm": (of_levels(100), "neither 255 nor 65535"),
    "1000 levels.pgm": (of_levels(1000), "neither 255 nor 65535"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_pixels_without_a_range_are_refused_by_both_readers(tmp_path, name):
    write, message = REFUSED[name]
    write(tmp_path / name)
    with pytest.raises(InputError, match=message):
        read_image(str(tmp_path / name))
    with pytest.raises(DataError):
        decode((tmp_path / name).read_bytes(), upright=True)


def test_floating_point_colours_which_some_releases_of_opencv_make_white_are_refused(tmp_path):
    encoded_by_opencv(NOISE[..., :3].astype(np.float32), ".tiff")(tmp_path / "x.tiff")
    with pytest.raises(DataError, match=r"save it with 8 or 16 bits|OpenCV cannot decode it"):
        decode((tmp_path / "x.tiff").read_bytes(), upright=True)
    with pytest.raises(InputError):
        read_image(str(tmp_path / "x.tiff"))


def test_a_photo_of_96_megapixels_is_read_as_validation_reads_it(tmp_path):
    Image.new("1", (12_000, 8_000)).save(tmp_path / "large.png")
    before = Image.MAX_IMAGE_PIXELS
    assert read_image(str(tmp_path / "large.png")).size == (12_000, 8_000)
    assert before == Image.MAX_IMAGE_PIXELS


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(started) (w) file closefile\n%%EOF\n"


@pytest.mark.parametrize("name", ["x.eps", "x.jpg", "x.png"])
def test_an_eps_file_starts_no_ghostscript(tmp_path, monkeypatch, name):
    """A stand-in for it, first on the path, would leave a mark."""
    programs, mark = tmp_path / "bin", tmp_path / "started"
    programs.mkdir()
    (programs / "gs").write_text(f"#!/bin/sh\n[ $1 = --version ] || touch {mark}\n")
    (programs / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    (tmp_path / name).write_bytes(EPS)
    with pytest.raises(InputError, match=r"cannot be read as an image \(it is none of JPEG, PNG,"):
        read_image(str(tmp_path / name))
    with pytest.raises(DataError, match=r"it is none of JPEG, PNG,"):
        decode(EPS, upright=True)
    assert not mark.exists()


OTHER_FORMATS = ("tga", "pcx", "icns", "jp2", "sgi", "dds", "ico", "pdf", "hdr", "exr")


@pytest.mark.parametrize("ending", OTHER_FORMATS)
def test_formats_that_are_not_on_the_list_are_read_by_neither(tmp_path, ending):
    path = tmp_path / f"x.{ending}"
    if ending in ("hdr", "exr"):
        path.write_bytes({"hdr": b"#?RADIANCE\n", "exr": b"v/1\x01"}[ending] + bytes(100))
    else:
        COLOURS.save(path)
    with pytest.raises(InputError, match="it is none of"):
        read_image(str(path))
    with pytest.raises(DataError, match="it is none of"):
        decode(path.read_bytes(), upright=True)


def test_nothing_but_the_two_readers_opens_an_image():
    """Each takes the closed list; a third one would not."""
    package = Path(gluon_aff.__file__).parent
    openers = re.compile(r"\bImage\.open\(|\bimread|\bimdecode|VideoCapture|read_image\(.*torchvision")
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if openers.search(path.read_text(encoding="utf-8"))
    }
    assert found == {"data/image_files.py", "data/imagenet/images.py"}


def test_a_picture_of_a_phone_that_holds_several_is_read(tmp_path):
    SOFT.save(tmp_path / "x.jpg", "MPO", save_all=True, append_images=[SOFT])
    assert read_image(str(tmp_path / "x.jpg")).size == SOFT.size


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(tmp_path, orientation):
    """Each of the eight ways of storing a picture that is red on top and black below."""
    upright = np.zeros((20, 30, 3), np.uint8)
    upright[:10] = RED
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1], 7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "x.png", exif=exif)
    np.testing.assert_array_equal(np.asarray(read_image(str(tmp_path / "x.png"))), upright)
    lying = read_image(str(tmp_path / "x.png"), upright=False)
    np.testing.assert_array_equal(np.asarray(lying), stored)


def test_a_damaged_exif_block_does_not_matter(tmp_path):
    Image.new("RGB", (32, 32), RED).save(tmp_path / "x.jpg", exif=b"Exif\0\0MM\0*garbage" + bytes(range(200)))
    assert read_image(str(tmp_path / "x.jpg")).size == (32, 32)


def test_a_file_cut_short_is_refused_though_gluoncv_lets_pillow_take_it(tmp_path, monkeypatch):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(tmp_path / "x.jpg")
    (tmp_path / "x.jpg").write_bytes((tmp_path / "x.jpg").read_bytes()[:-500])
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(InputError, match=r"x\.jpg cannot be read as an image \(image file is truncated"):
        read_image(str(tmp_path / "x.jpg"))
    assert ImageFile.LOAD_TRUNCATED_IMAGES
