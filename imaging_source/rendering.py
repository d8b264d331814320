"""What a person sees of an instance: pictures for a browser, reports as text.

Covers the image pipeline of PS3.4 N.2 as far as an instance tells it (Modality LUT, VOI LUT or
window, Presentation LUT Shape, palette, colour spaces; functional groups of enhanced objects
included), the viewport, window, quality and annotation parameters of PS3.18 8.3.5 and 9.1.2.2,
and Structured Reports as an indented outline. Not covered: presentation states, overlays,
shutters, pixels that are not square, video.

Pure work, done in a process of ``imaging_source.workers``: paths and numbers in, bytes out.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any

import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels.processing import (
    apply_color_lut,
    apply_modality_lut,
    apply_voi_lut,
    apply_windowing,
    convert_color_space,
)

from imaging_source.kinds import GIF, HTML, JPEG, PDF, PLAIN, PNG
from imaging_source.pixels import Image, Pixels, UnreadablePixels
from storage.files import Reference, stream

# What viewers take for "no visible loss".
QUALITY = 90

# Frames of one animation: a minute of a cine loop.
FRAME_LIMIT = 900
# A cine loop that does not tell its frame time runs at 10 a second.
FRAME_MILLISECONDS = 100.0

# Pixels of a picture that is asked for by its size: that of the largest screens.
MOST_EDGE = 8192

# Content items of a report; its depth is bounded by the recursion that pydicom allows.
ITEM_LIMIT = 20_000

Options = Mapping[str, Any]


class NoSuchFrame(Exception):
    """The instance has fewer frames."""


def render(source: Reference, syntax: str, kind: str, options: Options) -> bytes:
    """The Part 10 file ``source`` as ``kind``.

    ``options``: ``frame`` (from 1), ``rows`` and ``columns`` (what it is fitted into), ``region``
    (left, top, right, bottom as parts of 1) or ``source`` (x, y, width, height in pixels, None for
    all; negative sizes mirror), ``presentation`` (the file of a presentation state), ``window``
    (centre, width, function), ``quality`` (1 to 100), ``annotation`` (``patient``,
    ``technique``), ``patient_name`` and ``patient_id`` where they were corrected, ``encoding`` of
    texts. Raises UnreadablePixels for what is no such thing,
    NoSuchFrame.
    """
    if kind in (HTML, PLAIN):
        return _report(_dataset(source), kind, options.get("encoding", "utf-8"))
    if kind == PDF:
        return _document(_dataset(source))
    with Image(source, syntax) as image:
        frames = _wanted_frames(image, kind, options)
        pictures = (_picture(image, index, options) for index in frames)
        return _saved(pictures, kind, options, image.dataset)


def _dataset(source: Reference) -> Dataset:
    with stream(source) as file:
        return dcmread(file, force=True)


def _wanted_frames(image: Image, kind: str, options: Options) -> range:
    """All frames of an animation; else the one that is asked for, or the first."""
    number = options.get("frame")
    if number is None:
        count = min(image.layout.frames, FRAME_LIMIT) if kind == GIF else 1
        return range(count)
    if not 1 <= number <= image.layout.frames:
        raise NoSuchFrame
    return range(number - 1, number)


def _picture(image: Image, index: int, options: Options) -> Picture.Image:
    dataset = _with_functional_groups(image.dataset, index)
    pixels = image.frame(index)
    if "presentation" in options:
        dataset.update(_presented(_dataset(options["presentation"]), dataset))
    if image.layout.samples == 1 and image.layout.photometric != "PALETTE COLOR":
        shown = _grey(pixels, dataset, image.layout.photometric, options.get("window"))
    else:
        shown = _coloured(pixels, dataset, image)
    picture = _fitted(Picture.fromarray(shown), options)
    dataset.PatientName = options.get("patient_name", dataset.get("PatientName", ""))
    dataset.PatientID = options.get("patient_id", dataset.get("PatientID", ""))
    _annotate(picture, dataset, options.get("annotation", ()))
    return picture


def _with_functional_groups(dataset: Dataset, index: int) -> Dataset:
    """The attributes of the pipeline, those of the frame's own functional groups first."""
    flat = Dataset(dataset)
    groups: list[Dataset] = list(dataset.get("SharedFunctionalGroupsSequence", []))[:1]
    groups += list(dataset.get("PerFrameFunctionalGroupsSequence", []))[index : index + 1]
    for group in groups:
        for macro in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            for item in list(group.get(macro, []))[:1]:
                flat.update(item)
    return flat


def _presented(state: Dataset, dataset: Dataset) -> Dataset:
    """What a Grayscale Softcopy Presentation State says of an image's greys (PS3.3 C.11.8)."""
    said = Dataset()
    uid = dataset.get("SOPInstanceUID")
    for item in state.get("SoftcopyVOILUTSequence", []):
        images = [one.ReferencedSOPInstanceUID for one in item.get("ReferencedImageSequence", [])]
        if not images or uid in images:
            said.update(item)
    for keyword in ("PresentationLUTShape", "RescaleSlope", "RescaleIntercept"):
        if keyword in state:
            said[keyword] = state[keyword]
    return said


def _grey(pixels: Pixels, dataset: Dataset, photometric: str, window: Any) -> Pixels:
    values = apply_modality_lut(pixels, dataset)
    if window is not None:
        chosen = Dataset()
        chosen.PhotometricInterpretation = "MONOCHROME2"
        chosen.BitsStored, chosen.PixelRepresentation = 16, 0
        chosen.WindowCenter, chosen.WindowWidth, chosen.VOILUTFunction = window
        values = apply_windowing(values.astype(np.float32), chosen)
        low, high = 0.0, 65535.0
    elif "VOILUTSequence" in dataset or "WindowCenter" in dataset:
        values = apply_voi_lut(values, dataset)
        low, high = _output_range(values, dataset)
    else:
        low, high = float(values.min()), float(values.max())
    scaled = (values.astype(np.float32) - low) * (255.0 / max(high - low, 1e-6))
    shown: Pixels = np.clip(scaled + 0.5, 0, 255).astype(np.uint8)
    inverse = photometric == "MONOCHROME1"
    if dataset.get("PresentationLUTShape", "") == "INVERSE" and not inverse:
        inverse = True
    return 255 - shown if inverse else shown


def _output_range(values: Pixels, dataset: Dataset) -> tuple[float, float]:
    """Black and white of what ``apply_voi_lut`` gives."""
    if "VOILUTSequence" in dataset:
        bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        return 0.0, float(2**bits - 1)
    if "ModalityLUTSequence" in dataset:
        return 0.0, float(2 ** int(dataset.ModalityLUTSequence[0].LUTDescriptor[2]) - 1)
    bits = int(dataset.get("BitsStored", 16))
    signed = dataset.get("PixelRepresentation", 0) == 1
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    slope = float(dataset.get("RescaleSlope", 1) or 1)
    intercept = float(dataset.get("RescaleIntercept", 0) or 0)
    ends = sorted((low * slope + intercept, high * slope + intercept))
    return ends[0], ends[1]


def _coloured(pixels: Pixels, dataset: Dataset, image: Image) -> Pixels:
    bits = image.layout.bits
    if image.layout.photometric == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, dataset)[..., :3]
        bits = pixels.dtype.itemsize * 8
    elif image.decoded_photometric == "YBR_FULL":
        pixels = convert_color_space(pixels.astype(np.uint8, copy=False), "YBR_FULL", "RGB")
    if bits > 8:
        stored = bits if image.layout.samples == 1 else int(dataset.get("BitsStored", bits))
        pixels = pixels >> max(0, stored - 8)
    shown: Pixels = np.ascontiguousarray(pixels.astype(np.uint8))
    return shown


def _fitted(picture: Picture.Image, options: Options) -> Picture.Image:
    """The region asked for, as large as fits into the rows and columns asked for."""
    if "region" in options:
        width, height = picture.size
        left, top, right, bottom = options["region"]
        picture = _cut(picture, left * width, top * height, right * width, bottom * height)
    elif "source" in options:
        picture = _sourced(picture, *options["source"])
    width, height = picture.size
    wide, high = options.get("columns"), options.get("rows")
    if wide is None and high is None:
        return picture
    factor = min((wide or MOST_EDGE) / width, (high or MOST_EDGE) / height)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return picture.resize(size, Picture.Resampling.LANCZOS)


def _sourced(
    picture: Picture.Image,
    x: float | None,
    y: float | None,
    width: float | None,
    height: float | None,
) -> Picture.Image:
    """The source region of a viewport, in pixels (PS3.18 8.3.5.1.3)."""
    left, top = x or 0.0, y or 0.0
    wide = picture.width if width is None else width
    high = picture.height if height is None else height
    picture = _cut(picture, left, top, left + abs(wide), top + abs(high))
    if wide < 0:
        picture = picture.transpose(Picture.Transpose.FLIP_LEFT_RIGHT)
    return picture.transpose(Picture.Transpose.FLIP_TOP_BOTTOM) if high < 0 else picture


def _cut(
    picture: Picture.Image, left: float, top: float, right: float, bottom: float
) -> Picture.Image:
    """A part of the picture: whole pixels inside it, one at least."""
    x = min(max(0, round(left)), picture.width - 1)
    y = min(max(0, round(top)), picture.height - 1)
    wide, high = min(round(right), picture.width), min(round(bottom), picture.height)
    return picture.crop((x, y, max(x + 1, wide), max(y + 1, high)))


def _annotate(picture: Picture.Image, dataset: Dataset, wanted: Iterable[str]) -> None:
    """Texts burnt into the corners (PS3.18 8.3.5.1.1)."""
    patient = [str(dataset.get(name, "")) for name in ("PatientName", "PatientID", "StudyDate")]
    technique = [str(dataset.get(name, "")) for name in ("Modality", "SeriesDescription")]
    draw, size = ImageDraw.Draw(picture), max(10, picture.height // 40)
    font, white = ImageFont.load_default(size), 255 if picture.mode == "L" else (255, 255, 255)
    corners = {"patient": (patient, (4, 4), "la"), "technique": (technique, (4, -4), "ld")}
    for name in wanted:
        lines, (x, y), anchor = corners[name]
        text = "\n".join(filter(None, lines))
        draw.multiline_text(
            (x, y if y > 0 else picture.height + y), text, white, font, anchor, stroke_width=1,
            stroke_fill=0 if picture.mode == "L" else (0, 0, 0),
        )  # fmt: skip


def _saved(
    pictures: Iterator[Picture.Image], kind: str, options: Options, dataset: Dataset
) -> bytes:
    out = io.BytesIO()
    first = next(pictures)
    if kind == PNG:
        first.save(out, "PNG", compress_level=1)  # 6 takes five times as long for 5 % less
    elif kind == GIF:
        period = float(dataset.get("FrameTime", 0) or FRAME_MILLISECONDS)
        first.save(out, "GIF", save_all=True, append_images=pictures, duration=period, loop=0)
    elif kind == JPEG:
        first.save(out, "JPEG", quality=options.get("quality", QUALITY))
    else:
        raise UnreadablePixels("a kind of picture that is not made here")
    return out.getvalue()


def _document(dataset: Dataset) -> bytes:
    """The PDF in an Encapsulated PDF object (PS3.3 A.45.1)."""
    if dataset.get("MIMETypeOfEncapsulatedDocument") != PDF:
        raise UnreadablePixels("no PDF")
    data: bytes = dataset.EncapsulatedDocument
    length = dataset.get("EncapsulatedDocumentLength")
    return data[: int(length)] if length else data


def _report(dataset: Dataset, kind: str, encoding: str) -> bytes:
    """A Structured Report as an outline (PS3.3 C.17.3)."""
    if "ContentSequence" not in dataset:
        raise UnreadablePixels("no report")
    lines = list(_lines(dataset, 0, [ITEM_LIMIT]))
    if kind == PLAIN:
        text = "".join(f"{'  ' * depth}{line}\n" for depth, line in lines)
        return text.encode(encoding, "replace")
    rows = "".join(
        f'<p style="margin:.2em 0 .2em {depth * 1.5}em">{escape(line)}</p>' for depth, line in lines
    )
    title = escape(lines[0][1])
    page = (
        f'<!DOCTYPE html><html><head><meta charset="{encoding}"><title>{title}</title></head>'
        f"<body>{rows}</body></html>"
    )
    return page.encode(encoding, "xmlcharrefreplace")


def _lines(item: Dataset, depth: int, left: list[int]) -> Iterator[tuple[int, str]]:
    left[0] -= 1
    if left[0] < 0:
        return
    names = item.get("ConceptNameCodeSequence")
    name = str(names[0].get("CodeMeaning", "")) if names else ""
    value = _value(item)
    yield depth, ": ".join(filter(None, (name, value))) or str(item.get("ValueType", ""))
    for child in item.get("ContentSequence", []):
        yield from _lines(child, depth + 1, left)


def _value(item: Dataset) -> str:
    """The value of a content item, by its type."""
    for keyword in ("TextValue", "PersonName", "Date", "Time", "DateTime", "UID"):
        if keyword in item:
            return str(item.get(keyword))
    if codes := item.get("ConceptCodeSequence"):
        return str(codes[0].get("CodeMeaning", ""))
    if measured := item.get("MeasuredValueSequence"):
        units = measured[0].get("MeasurementUnitsCodeSequence")
        unit = str(units[0].get("CodeValue", "")) if units else ""
        return f"{measured[0].get('NumericValue', '')} {unit}".strip()
    if referred := item.get("ReferencedSOPSequence"):
        return str(referred[0].get("ReferencedSOPInstanceUID", ""))
    return ""
