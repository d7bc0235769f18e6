"""ResNets by timm, without their last layer. They do not grow."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from edgecl.errors import MissingDependency
from edgecl.learners.parts.networks.base import Network, draw_weights, network, nn, torch


def resnet(name: str, draw: Any) -> Network:
    """Pictures (n, 3, h, w) to features. name: resnet18 or resnet50."""
    try:
        timm = import_module("edgecl.rom.torch_compat").timm
    except ImportError as error:
        raise MissingDependency("ResNets come from timm: pip install 'edgecl[learn]'") from error
    module = timm.create_model(name, pretrained=False, num_classes=0)
    draw_weights(module, draw)
    with torch.no_grad():
        for one in module.modules():
            if isinstance(one, nn.BatchNorm2d):
                one.weight.fill_(1)
    return network(module, int(module.num_features))
