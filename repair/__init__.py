"""Repairs by name: what makes a backdoored model clean after training, given some clean data.

To add one: a file with a subclass of `Repair`, and a line in `REPAIRS`.
"""

from repair.repair import Repair, Repaired, RepairSetting
from utils.registry import Registry

REPAIRS: Registry[Repair] = Registry(
    "repair",
    {
        "fine_pruning": "repair.fine_pruning:FinePruning",
        "nad": "repair.nad:AttentionDistillation",
    },
)

__all__ = ["REPAIRS", "Repair", "RepairSetting", "Repaired"]
