"""SARIF 2.1.0: suspects as results of an analysis, for code scanning and its viewers."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from data.formats.format import Format, Listing, rounded, write_json

FILE = "asd.sarif"
MOST = 5000  # results; viewers show no more, and some refuse a file with many more
RULE = "suspect-label"
BASE = "DATASET"
SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
FOLDER = "the data set's folder, or that of --export where no file holds what the run saw"
ESCAPED = str.maketrans({"\\": r"\\", "[": r"\[", "]": r"\]", "{": "{{", "}": "}}"})


def message(text: str) -> dict[str, str]:
    """Return a message in which nothing is a placeholder or a link.

    Class names are a stranger's. SARIF 2.1.0 reads `{0}` (3.11.5) and `[text](target)` (3.11.6).
    """
    return {"text": text.translate(ESCAPED)}


RULES = [
    {
        "id": RULE,
        "name": "SuspectLabel",
        "shortDescription": message("The given label contradicts what the model sees."),
        "fullDescription": message(
            "A model that was trained not to trust this label gives the sample another one: it is "
            "poisoned, or wrongly labelled."
        ),
        "help": message("Look at the sample; name it clean or poisoned in a review."),
        "defaultConfiguration": {"level": "warning"},
    }
]


class Sarif(Format):
    """`asd.sarif`: the samples that are not kept, the most suspicious first."""

    leaves = (FILE,)

    def write(self, listing: Listing, folder: Path) -> list[str]:
        """Write the file; return lines."""
        suspects = [index for index in listing.order.tolist() if not bool(listing.kept[index])]
        run = {
            "tool": {"driver": {"name": "ASD", "rules": RULES}},
            "originalUriBaseIds": {BASE: {"description": message(FOLDER)}},
            "columnKind": "unicodeCodePoints",
            "results": [self._result(listing, index) for index in suspects[:MOST]],
            "properties": {
                "verdict": listing.verdict,
                "suspectedTargets": list(listing.targets),
                "samples": len(listing),
                "suspects": len(suspects),
            },
        }
        write_json(folder / FILE, {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]})
        lines = [f"SARIF: {folder / FILE}"]
        if len(suspects) > MOST:
            lines.append(f"it holds the first {MOST:,} of {len(suspects):,} suspects")
        return lines

    def _result(self, listing: Listing, index: int) -> dict[str, Any]:
        """Return the result for one sample."""
        given, own = listing.label(index), listing.own_label(index)
        file, where = location(listing, index)
        identity = hashlib.sha256(file + b"\0" + given.encode("utf-8", "surrogateescape"))
        score = rounded(listing.score[index])
        return {
            "ruleId": RULE,
            "ruleIndex": 0,
            "level": "error" if given in listing.targets else "warning",
            "message": message(
                f"Labelled {given!r}; the model sees {own!r} "
                f"({float(listing.probability[index]):.0%}). Suspicion {score:.3f} of 1."
            ),
            # Code scanning shows no result without a line, and an image has none.
            "locations": [
                {"physicalLocation": {"artifactLocation": where, "region": {"startLine": 1}}}
            ],
            "rank": rounded(100 * min(max(score, 0.0), 1.0)),
            "partialFingerprints": {"sampleAndLabel/v1": identity.hexdigest()},
            "properties": {"givenLabel": given, "ownLabel": own, "sample": index},
        }


def location(listing: Listing, index: int) -> tuple[bytes, dict[str, str]]:
    """Return the name of a sample, and where it is: below the folder, or else in whole."""
    file = listing.files[index]
    if file is None:
        name = os.fsencode(listing.training.name(index))
        return name, {"uri": listing.place(index).as_uri()}
    name = os.fsencode(file)
    return name, {"uri": quote(name), "uriBaseId": BASE}
