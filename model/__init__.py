"""Networks by name. To add one: a file with a subclass of `Network`, and a line in `NETWORKS`."""

from model.network import Network, build_network
from utils.registry import Registry

NETWORKS: Registry[Network] = Registry(
    "network",
    {
        "resnet18_cifar": "model.resnet_cifar:ResNet18Cifar",
    },
)

__all__ = ["NETWORKS", "Network", "build_network"]
