"""A game on a device that is not there: inside FakeTensorMode, where no value can be looked at."""

import torch

from iaside.game.game import Game
from iaside.inputs.asked import Asked


def pretended_game(monkeypatch, model, images, labels, masks, **settings):
    """A `Game` without those of its checks that look at values."""
    asked = Asked(model, classes=2, answer=torch.zeros(1, 2))
    for name, instead in {
        "device_of": lambda model, device: torch.device(device),
        "check_images": lambda images, **_: images,
        "labels_for": lambda values, labels, n: labels,
        "check_masks": lambda masks, images: (masks, len(masks)),
        "probe": lambda *_, **__: asked,
        "fingerprint": lambda tensor: "",
        "fingerprint_model": lambda model, answer: "",
        "look": lambda images: "",
    }.items():
        monkeypatch.setattr(f"iaside.game.game.{name}", instead)
    monkeypatch.setattr("iaside.inputs.asked.check_shown", lambda x: None)
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda *args: True)
    return Game(model, images, labels, masks, batch_size=16, **settings)
