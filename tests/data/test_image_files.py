"""Image files of many kinds."""

import numpy as np
import pytest
from PIL import Image, ImageFile

from gluon_aff.data.image_files import read_image
from gluon_aff.errors import InputError

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


GREYS = {
    "grey.png": lambda p: Image.new("L", (4, 3), 100).save(p),
    "16 bit.png": lambda p: Image.fromarray(np.full((3, 4), 100 * 257, np.uint16)).save(p),
    "16 bit.tiff": lambda p: Image.fromarray(np.full((3, 4), 100 * 257, np.uint16)).save(p),
    "32 bit.tiff": lambda p: Image.fromarray(np.full((3, 4), 100 * 257, np.int32)).save(p),
    "half transparent.png": lambda p: Image.new("RGBA", (4, 3), (0, 0, 0, 155)).save(p),
    "grey, transparent.png": lambda p: Image.new("LA", (4, 3), (0, 155)).save(p),
}


@pytest.mark.parametrize("name", GREYS)
def test_grey_of_8_and_16_bits_and_transparency_over_white(tmp_path, name):
    GREYS[name](tmp_path / name)
    np.testing.assert_array_equal(np.asarray(read_image(str(tmp_path / name))), np.full((3, 4, 3), 100))


def test_what_is_transparent_is_white(tmp_path):
    Image.new("RGBA", (4, 3), (*RED, 0)).save(tmp_path / "clear.png")
    Image.new("RGB", (4, 3), RED).save(tmp_path / "colour key.png", transparency=RED)
    Image.new("1", (4, 3), 1).save(tmp_path / "white.png")
    for name in ("clear.png", "colour key.png", "white.png"):
        assert (np.asarray(read_image(str(tmp_path / name))) == 255).all()


def test_floating_point_pixels_are_refused(tmp_path):
    Image.fromarray(np.zeros((3, 4), np.float32)).save(tmp_path / "x.tiff")
    with pytest.raises(InputError, match="save it with 8 or 16 bits"):
        read_image(str(tmp_path / "x.tiff"))


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
