"""What a run was and what it reached, for the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from data.poison import given_targets
from report.content import PageContent
from report.drawing import Row, Stage, number, percent
from report.findings import Findings
from run.forecast import in_minutes
from run.measure import ranking_quality

LONGEST_LIST = 200  # entries of a list in the manifest
# What the manifest says of an attack. Without one it says 0 and none, which nobody knows.
TRUTH_KEYS = ("attack", "poisoned_samples", "poisoned_indices")


@dataclass(frozen=True)
class Measured:
    """ACC and ASR after an epoch; None where not measured."""

    when: str
    epoch: int | None
    acc: float | None
    asr: float | None


def scores(content: PageContent) -> list[Measured]:
    """Return ACC and ASR at the end and, if another one was better, in the best epoch."""
    rows = [row for row in content.rows if number(row, "acc") is not None]
    if content.result.get("acc") is not None:
        last = content.rows[-1] if content.rows else {}
        row = {**last, **{key: content.result.get(key) for key in ("acc", "asr")}}
        found = [measured("last epoch" if content.finished else "last measured", row)]
    else:
        found = [measured("last measured", rows[-1])] if rows else []
    best = max(rows, key=lambda row: number(row, "acc") or 0.0, default=None)
    if best is not None and best["epoch"] != rows[-1]["epoch"]:
        found.append(measured("best ACC on these images", best))
    return found


def measured(when: str, row: Row) -> Measured:
    """Return the scores in a row of the log."""
    epoch = int(row["epoch"]) if "epoch" in row else None
    return Measured(when, epoch, number(row, "acc"), number(row, "asr"))


def facts(content: PageContent) -> dict[str, str]:
    """Return what the run was, by name."""
    findings, result = content.findings, content.result
    planned, done = content.standing.planned, len(content.rows)
    found = {
        "training samples": f"{len(findings):,} of {findings.training.num_classes} classes",
        **tell_seeds(findings),
        "may be kept": f"{int(findings.kept.sum()):,} of {len(findings):,} (purified.txt)",
        "defence": result.get("defense") or content.config.get("defense"),
        "data set": result.get("dataset") or content.config.get("dataset"),
        "attack": describe_attack(content),
        "epochs": str(done) if planned == done else f"{done} of {planned}",
        "time": duration(content),
        "device": result.get("device") or content.manifest.get("device"),
    }
    return {name: str(value) for name, value in found.items() if value}


def describe_attack(content: PageContent) -> str:
    """Return which attack the run itself made, how often and to what; nothing on others' data."""
    truth, backdoor = content.findings.poisoned, content.config.get("backdoor") or {}
    name, training = content.manifest.get("attack"), content.findings.training
    if truth is None or not name:
        return ""
    rate = float(truth.double().mean())
    targets = given_targets(training.labels, truth, backdoor.get("target_label"))
    if backdoor.get("label_rule") == "all_to_all":
        aim = "each class to the next one"
    elif len(targets) == 1:
        aim = f"target {training.classes[targets[0]]!r}"
    else:
        aim = f"{len(targets)} target labels"
    return f"{name}, {int(truth.sum()):,} samples ({percent(rate)}), {aim}"


def tell_seeds(findings: Findings) -> dict[str, str]:
    """Return from how many samples the defence started, and who chose them."""
    count = f"{len(findings.seeds):,}"
    who = {
        "verified": count,
        "chosen": f"none; the witnesses chose {count} to start from",
        "drawn": f"none; {count} were drawn to start from, and may be poisoned",
    }
    return {"verified samples": who[findings.origin]}


def duration(content: PageContent) -> str:
    """Return the time that the epochs took."""
    seconds = sum(number(row, "seconds") or 0.0 for row in content.rows)
    return f"{seconds:.0f} s" if round(seconds / 60) < 2 else in_minutes(seconds)


def judge_ranking(findings: Findings) -> dict[str, str]:
    """Return how well the score ranks, by the truth; nothing where there is none to find."""
    truth = findings.poisoned
    count = 0 if truth is None else int(truth.sum())
    if truth is None or not 0 < count < len(truth):
        return {}
    quality = ranking_quality(findings.score, truth)
    hits = round(quality["suspects_precision"] * count)
    lost = int((findings.kept & truth).sum())
    share = percent(quality["suspects_precision"])
    return {
        "poisoned": f"{count:,} of {len(truth):,} samples",
        f"poisoned among the first {count:,} suspects": f"{hits:,} ({share})",
        "poisoned among the samples that may be kept": f"{lost:,}",
        "AUROC of the score": f"{quality['suspects_auroc']:.4f}",
    }


def tell_stages(stages: list[Stage]) -> str:
    """Return the stages and their epochs as a sentence."""
    return "; ".join(
        f"{stage.name}: epoch {stage.first}"
        + (f" to {stage.last}" if stage.last > stage.first else "")
        for stage in stages
    )


def shorten(value: Any) -> Any:
    """Return `value` with the ends of long lists left out."""
    if isinstance(value, Mapping):
        return {key: shorten(part) for key, part in value.items()}
    if isinstance(value, list | tuple) and len(value) > LONGEST_LIST:
        return [*value[:LONGEST_LIST], f"and {len(value) - LONGEST_LIST} more"]
    return list(value) if isinstance(value, tuple) else value


def as_yaml(content: Mapping[str, Any]) -> str:
    """Return plain values as YAML, short lists on one line."""
    plain = shorten(content)
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, default_flow_style=None)


def public_manifest(content: PageContent) -> dict[str, Any]:
    """Return the manifest without what needs the truth, where nobody knows it."""
    hidden = () if content.knows_truth else TRUTH_KEYS
    return {key: value for key, value in content.manifest.items() if key not in hidden}
