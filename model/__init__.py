"""Networks by name. To add one: a file with a subclass of `Network`, and a line in `NETWORKS`."""

from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

from model.network import Network, build_network, check_size
from utils.choice import Choice, dump_choice, from_registry
from utils.registry import Registry

NETWORKS: Registry[Network] = Registry(
    "network",
    {
        "resnet18_cifar": "model.resnet_cifar:ResNet18Cifar",
        "preactresnet18": "model.preactresnet:PreActResNet18",
        "densenet121": "model.densenet_cifar:DenseNet121Cifar",
        "vgg19_bn": "model.vgg_cifar:VGG19Cifar",
        "fastnet": "model.fastnet:FastNet",
        "torchvision": "model.from_torchvision:Torchvision",
        "timm": "model.from_timm:Timm",
    },
)

NetworkChoice = Annotated[
    Choice, BeforeValidator(from_registry(NETWORKS)), PlainSerializer(dump_choice)
]

__all__ = ["NETWORKS", "Network", "NetworkChoice", "build_network", "check_size"]
