"""Formats of other tools by name. To add one: a file with a subclass of `Format`, and a line here.

A format says how suspects are written for its tool and, where people review in that tool, how their
verdicts are read back: both sides of one agreement stand in one file.
"""

from data.formats.format import CLEAN, POISONED, VERDICTS, Format, Listing, Said, write_formats
from utils.registry import Registry

FORMATS: Registry[Format] = Registry(
    "report format",
    {
        "cleanlab": "data.formats.cleanlab:Cleanlab",
        "fiftyone": "data.formats.fiftyone:FiftyOne",
        "label_studio": "data.formats.label_studio:LabelStudio",
        "sarif": "data.formats.sarif:Sarif",
    },
)

__all__ = [
    "CLEAN",
    "FORMATS",
    "POISONED",
    "VERDICTS",
    "Format",
    "Listing",
    "Said",
    "write_formats",
]
