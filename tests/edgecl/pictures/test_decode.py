"""Every kind of picture comes out right, and every bad file as one named sentence."""

from __future__ import annotations

import io
import os
import struct
import threading
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from edgecl.errors import PictureError
from edgecl.pictures.decode import DecodeLimits, decode, decode_whole, read
from edgecl.rom.preprocess import Preprocess, pixels

P = Preprocess(size=64, crop=0.875)
pytestmark = pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # Pillow says so on the damaged ones


def photo(width: int = 120, height: int = 90, seed: int = 0) -> Image.Image:
    """Smooth colours without symmetry, so that a turned, mirrored or shifted picture is another picture."""
    noise = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def saved(image: Image.Image, format_: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format_, **options)
    return out.getvalue()


def apart(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


def png(width: int, height: int, rows: bytes = b"") -> bytes:
    """A grey PNG by its specification: the header may promise what the data do not hold."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


# -- good pictures


@pytest.mark.parametrize("format_", ["PNG", "BMP", "PPM", "TIFF"])
def test_a_lossless_file_gives_exactly_the_pixels_of_the_picture(format_: str, tmp_path: Path) -> None:
    path = tmp_path / "picture"  # no suffix: content decides
    path.write_bytes(saved(photo(), format_))
    expected = pixels(photo(), P)
    for source in (path, str(path), path.read_bytes(), photo(), np.asarray(photo())):
        assert np.array_equal(decode(source, P), expected)


@pytest.mark.parametrize("format_", ["JPEG", "WEBP"])
def test_a_lossy_file_gives_nearly_the_pixels_of_the_picture(format_: str) -> None:
    assert apart(decode(saved(photo(), format_, quality=95), P), pixels(photo(), P)) < 2


@pytest.mark.parametrize(("width", "height"), [(640, 480), (1001, 803), (3000, 2000), (250, 230)])
def test_a_reduced_jpeg_shows_the_same_as_a_full_decode(width: int, height: int) -> None:
    p = Preprocess()
    data = saved(photo(width, height), "JPEG", quality=95)
    with Image.open(io.BytesIO(data)) as full:
        assert apart(decode(data, p), pixels(full, p)) < 1


def test_a_reduced_jpeg_is_cut_at_the_centre_of_the_picture_not_of_the_rounded_up_pixels() -> None:
    """65 columns at 1/8 are 9, the last an eighth full: cut at 4.5 columns, everything would shift by 3.5 pixels."""
    p = Preprocess(size=8, crop=1.0, interpolation="bilinear")
    ramp = np.tile(np.linspace(0, 252, 65)[None, :, None], (65, 1, 3)).astype(np.uint8)
    shown = decode(saved(Image.fromarray(ramp), "JPEG", quality=100), p)
    assert apart(shown, pixels(ramp, p)) < 4


def test_a_jpeg_is_decoded_no_smaller_than_the_network_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import JpegImagePlugin

    seen: list[tuple[int, int]] = []
    load = JpegImagePlugin.JpegImageFile.load

    def spy(self: Any) -> Any:
        seen.append(self.size)
        return load(self)

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "load", spy)
    for size in [(640, 480), (440, 440), (4000, 3000)]:
        decode(saved(photo(*size), "JPEG"), Preprocess())
    assert {(320, 240), (440, 440), (500, 375)} == set(seen)  # 440 / 2 would leave 192 of 224 pixels: not enough


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_honoured(format_: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} if format_ in ("JPEG", "WEBP") else {}
    data = saved(photo(), format_, exif=exif, **options)
    with Image.open(io.BytesIO(data)) as image:
        upright = ImageOps.exif_transpose(image)
    assert apart(decode(data, P), pixels(upright, P)) < 1


def test_a_damaged_exif_block_does_not_cost_the_picture() -> None:
    data = saved(photo(), "JPEG", quality=95, exif=b"Exif\0\0II*\0\xff\xff\xff\xffgarbage")
    assert apart(decode(data, P), pixels(photo(), P)) < 2


def test_an_animation_gives_its_first_frame() -> None:
    frames = [photo(seed=1), photo(seed=2)]
    for format_ in ("GIF", "WEBP", "PNG", "TIFF", "MPO"):
        data = saved(frames[0], format_, save_all=True, append_images=frames[1:])
        shown = decode(data, P)
        assert apart(shown, pixels(frames[0], P)) < 12 < apart(shown, pixels(frames[1], P)), format_


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_a_transparent_picture_lies_on_white(mode: str) -> None:
    """Black and transparent on the left, black and opaque on the right."""
    image = Image.new("LA", (64, 64), (0, 0))
    image.paste((0, 255), (32, 0, 64, 64))
    if mode == "P":
        palette = Image.new("P", (64, 64), 0)
        palette.putpalette([0, 0, 0, 0, 0, 0])
        palette.paste(1, (32, 0, 64, 64))
        data = saved(palette, "PNG", transparency=0)
    else:
        data = saved(image.convert(mode), "PNG")
    shown = decode(data, P)
    assert (shown[:, :28] == 255).all() and (shown[:, 36:] == 0).all()


def test_half_transparent_colours_mix_with_white() -> None:
    shown = decode(Image.new("RGBA", (50, 50), (200, 100, 0, 128)), P)
    np.testing.assert_allclose(shown[0, 0], [227, 177, 127], atol=1)  # c * a + 255 * (1 - a)
    as_array = decode(np.full((50, 50, 4), (200, 100, 0, 128), np.uint8), P)
    assert np.array_equal(shown, as_array)


def test_a_colour_key_is_transparent_too() -> None:
    data = saved(Image.new("RGB", (50, 50), (1, 2, 3)), "PNG", transparency=(1, 2, 3))
    assert (decode(data, P) == 255).all()


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV"])
def test_other_modes_show_what_pillow_shows_in_rgb(mode: str) -> None:
    image = photo().convert(mode)
    assert apart(decode(image, P), pixels(image.convert("RGB"), P)) < 0.5


def test_an_inverted_cmyk_jpeg_of_adobe_is_not_a_negative() -> None:
    data = saved(photo().convert("CMYK"), "JPEG", quality=95)
    assert b"Adobe" in data
    assert apart(decode(data, P), pixels(photo(), P)) < 4


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.full((40, 40), 32896, np.uint16), 128),  # 16 bit: 0..65535
        (np.full((40, 40), 2056, np.uint16), 128),  # a 12-bit camera: 0..4095
        (np.full((40, 40), 32896, np.int32), 128),
        (np.full((40, 40), 0.5, np.float32), 128),  # 0..1
        (np.full((40, 40), 128.0, np.float32), 128),  # 0..255
        (np.full((40, 40), -3.0, np.float32), 0),  # no stated range, all equal
    ],
)
def test_deep_grey_pictures_keep_their_brightness(array: np.ndarray, expected: int) -> None:
    shown = decode(saved(Image.fromarray(array), "TIFF"), P)
    assert shown.shape == (64, 64, 3) and (shown == expected).all()


def test_a_16_bit_png_keeps_its_gradient() -> None:
    ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (64, 1))
    shown = decode(saved(Image.fromarray(ramp), "PNG"), Preprocess(size=64, crop=1.0))
    np.testing.assert_allclose(shown[0, :, 0], np.linspace(0, 255, 64), atol=1)


def test_floats_without_a_range_are_stretched_and_nan_refused() -> None:
    ramp = np.tile(np.linspace(-1000, 3000, 64, dtype=np.float32), (64, 1))
    shown = decode(saved(Image.fromarray(ramp), "TIFF"), Preprocess(size=64, crop=1.0))
    assert shown.min() == 0 and shown.max() == 255
    ramp[3, 3] = np.nan
    with pytest.raises(PictureError, match="NaN"):
        decode(saved(Image.fromarray(ramp), "TIFF"), P)


def test_arrays_of_other_types_follow_the_stated_rules() -> None:
    assert (decode(np.full((9, 9), 65535, np.uint16), P) == 255).all()
    assert (decode(np.ones((9, 9), np.bool_), P) == 255).all()
    with pytest.raises(PictureError, match="float32 has no stated range"):
        decode(np.ones((9, 9), np.float32), P)
    with pytest.raises(PictureError, match="not empty"):
        decode(np.ones((0, 9, 4), np.uint8), P)


# -- bad pictures


def refusal(source: Any, **options: Any) -> str:
    with pytest.raises(PictureError) as caught:
        decode(source, P, **options)
    return str(caught.value)


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_refused_by_name(format_: str, part: float, tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8))
    data = saved(noise, format_)
    path = tmp_path / f"cut.{format_}"
    path.write_bytes(data[: int(len(data) * part)])
    assert str(path) in refusal(path)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "0 bytes"),
        (b"this is a text file", "known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "known format"),  # would start a PostScript interpreter
        (b"RIFF\x24\0\0\0WAVEfmt ", "known format"),
        (b"\xff\xd8\xff\xe0 no jpeg at all", "damaged"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\0", "damaged"),
        (b"II*\0\xff\xff\xff\x7f", "damaged"),
        (b"P6 4 4 255\n\0", "damaged"),
    ],
)
def test_a_file_that_is_no_picture_is_refused_with_the_reason(data: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.jpg"
    path.write_bytes(data)
    message = refusal(path)
    assert str(path) in message and words in message
    assert "shown" in refusal(data, name="shown")


def test_flipped_bytes_are_decoded_or_refused_but_never_crash() -> None:
    """Damage in the middle of a JPEG's data cannot always be seen; what is not refused has the right shape."""
    rng = np.random.default_rng(0)
    for format_ in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"):
        good = saved(photo(), format_)
        for _ in range(25):
            data = bytearray(good)
            for at in rng.integers(0, len(data), 4):
                data[at] = rng.integers(0, 256)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # Pillow on odd metadata
                    assert decode(bytes(data), P).shape == (64, 64, 3)
            except PictureError:
                pass


def test_a_folder_a_missing_file_and_an_odd_name_are_named(tmp_path: Path) -> None:
    assert "is a folder" in refusal(tmp_path)
    assert "no such file" in refusal(tmp_path / "gone.jpg")
    assert "cannot be opened" in refusal("nul\0byte.jpg")
    odd = tmp_path / "two\nlines \x1b[31m é.png"
    odd.write_bytes(saved(photo(), "PNG"))
    assert decode(odd, P).shape == (64, 64, 3)
    odd.write_bytes(b"")
    message = refusal(odd)
    assert "two\\nlines \\x1b[31m é.png" in message and "\n" not in message and "\x1b" not in message


def test_a_loop_of_links_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to(tmp_path / "b.jpg")
    (tmp_path / "b.jpg").symlink_to(tmp_path / "a.jpg")
    assert "a.jpg: cannot be opened" in refusal(tmp_path / "a.jpg")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(tmp_path: Path) -> None:
    path = tmp_path / "locked.jpg"
    path.write_bytes(b"x")
    path.chmod(0)
    assert "permission denied" in refusal(path)


def test_a_refused_open_is_named_as_a_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for root, whom no mode bit stops."""
    path = tmp_path / "locked.jpg"
    path.write_bytes(b"x")

    def refuse(*_: Any, **__: Any) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("edgecl.pictures.decode.os.open", refuse)
    assert "locked.jpg: permission denied" in refusal(path)


def refusal_in_time(path: Path) -> str:
    """In a thread of its own, so that an open that waits for a writer fails the test instead of stopping it."""
    messages: list[str] = []
    thread = threading.Thread(target=lambda: messages.append(refusal(path)), daemon=True)
    thread.start()
    thread.join(5)
    return messages[0] if messages else "still waiting"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs on this system")
def test_a_pipe_or_device_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    fifo = tmp_path / "pipe.jpg"
    os.mkfifo(fifo)
    for path in (fifo, Path("/dev/zero"), Path("/dev/null")):
        assert "regular files" in refusal_in_time(path)


def test_a_device_is_not_even_opened_because_opening_can_act_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    with monkeypatch.context() as patched:
        patched.setattr("edgecl.pictures.decode.os.open", lambda *args: opened.append(args))
        message = refusal(Path(os.devnull))
    assert "regular files" in message and not opened


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs on this system")
def test_a_file_exchanged_for_a_pipe_before_it_is_opened_does_not_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "swapped.jpg"
    path.write_bytes(b"x")
    regular = os.stat(path)
    path.unlink()
    os.mkfifo(path)
    with monkeypatch.context() as patched:
        patched.setattr("edgecl.pictures.decode.os.stat", lambda *_, **__: regular)
        message = refusal_in_time(path)
    assert "regular files" in message


# -- limits


def test_a_huge_baseline_jpeg_is_decoded_reduced() -> None:
    data = saved(Image.new("L", (10_000, 10_000), 90), "JPEG")
    assert (decode(data, Preprocess()) == 90).all()


def test_a_huge_picture_is_refused_before_it_is_decoded() -> None:
    """100 MP in the header, no data: had it been decoded, the message would speak of damage."""
    message = refusal(png(10_000, 10_000), name="bomb.png")
    assert "bomb.png" in message and "10000 x 10000" in message and "64 million" in message
    assert "damaged" in refusal(png(1000, 1000))


def test_the_limit_is_ours_whatever_pillows_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(saved(photo(), "PNG"), P).shape == (64, 64, 3)
        assert decode(saved(photo(), "JPEG"), P).shape == (64, 64, 3)


def test_a_progressive_jpeg_counts_whole_because_libjpeg_keeps_it_whole() -> None:
    limits = DecodeLimits(max_pixels=200_000)
    image = photo(640, 480)
    assert decode(saved(image, "JPEG"), P, limits).shape == (64, 64, 3)
    assert "640 x 480" in refusal(saved(image, "JPEG", progressive=True), limits=limits)
    assert decode(saved(image, "JPEG", progressive=True), P).shape == (64, 64, 3)


def test_a_progressive_jpeg_of_endless_scans_is_refused() -> None:
    data = saved(photo(), "JPEG", progressive=True)
    at = data.index(b"\xff\xda")
    assert "scans" in refusal(data[:at] + data[at : at + 20] * 600 + data[at:])


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    path.write_bytes(saved(photo(), "PNG"))
    assert read(path) == path.read_bytes()
    message = refusal(path, limits=DecodeLimits(max_bytes=100))
    assert "large.png" in message and "at most" in message


def test_a_pil_image_is_held_to_the_limit_and_left_as_it_was() -> None:
    assert "120 x 90" in refusal(photo(), limits=DecodeLimits(max_pixels=100))
    with Image.open(io.BytesIO(saved(photo(640, 480), "JPEG"))) as image:
        decode(image, P)
        assert image.size == (640, 480)


def test_what_is_no_picture_at_all_is_refused() -> None:
    wrong: Any = 7
    assert "int is no picture" in refusal(wrong)


def test_threads_get_what_one_thread_gets() -> None:
    makers: list[Callable[[], bytes]] = [
        lambda: saved(photo(640, 480), "JPEG"),
        lambda: saved(photo(), "WEBP"),
        lambda: saved(photo(), "TIFF"),
    ]
    sources = [make() for make in makers] * 8
    alone = [decode(source, P) for source in sources]
    together: list[np.ndarray | None] = [None] * len(sources)

    def work(i: int) -> None:
        together[i] = decode(sources[i], P)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(sources))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(b is not None and np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_a_whole_picture_is_upright_in_colour_and_on_white(tmp_path: Path) -> None:
    picture = photo(40, 30)
    for name, image, expected in (
        ("plain.png", picture, picture),
        ("grey.png", picture.convert("L"), picture.convert("L").convert("RGB")),
        ("turned.png", picture.transpose(Image.Transpose.ROTATE_90), picture),
    ):
        exif = Image.Exif()
        exif[0x0112] = 6 if name == "turned.png" else 1  # turn it by a quarter to the right
        image.save(tmp_path / name, exif=exif)
        assert (decode_whole(tmp_path / name) == np.asarray(expected)).all(), name
    clear = Image.new("RGBA", (5, 4), (0, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    assert (decode_whole(tmp_path / "clear.png") == 255).all()


def test_a_whole_jpeg_is_read_smaller_but_not_below_what_is_asked_for(tmp_path: Path) -> None:
    photo(400, 320).save(tmp_path / "a.jpg")
    assert [decode_whole(tmp_path / "a.jpg", shorter).shape[:2] for shorter in (0, 200, 160, 90, 40, 5)] == [
        *((320, 400), (320, 400), (160, 200), (160, 200), (40, 50), (40, 50))
    ]


def test_a_picture_that_cannot_be_read_whole_is_named(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "deep.png")
    (tmp_path / "text.jpg").write_text("no picture")
    for name, words in (("deep.png", "16 or 32 bits"), ("text.jpg", "known format"), ("none.jpg", "no such file")):
        with pytest.raises(PictureError, match=f"{name}: .*{words}"):
            decode_whole(tmp_path / name)
    photo(50, 40).save(tmp_path / "large.png")
    with pytest.raises(PictureError, match="million"):
        decode_whole(tmp_path / "large.png", limits=DecodeLimits(max_pixels=100))
