"""Images changed on purpose, so little that nobody sees it, until the network errs.

- FGSM: I. J. Goodfellow, J. Shlens and C. Szegedy, "Explaining and harnessing adversarial
  examples", ICLR 2015.
- PGD: A. Madry, A. Makelov, L. Schmidt, D. Tsipras and A. Vladu, "Towards deep learning models
  resistant to adversarial attacks", ICLR 2018.

Both change each pixel by at most eps, and stay within the range of values. They work on raw pixels:
normalisation is a part of the model that is attacked.

Departures: the gradient of the cross-entropy is divided by the probability of a mistake before it
goes back through the network. That is a positive number for each image, so the sign, which is all
that the attacks use, stays the same; but where the network is so sure that the probability is 0 in
float32, the gradient would be 0, and the attack would fail without the network being robust. PGD
stops for an image as soon as it has fooled the network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from parti.core.errors import InvalidSettings

__all__ = ["Model", "fgsm", "pgd"]

Model = Callable[[Tensor], Tensor]
"""Raw pixels [b, channels, height, width], float32, to logits [b, classes], in evaluation mode."""

STRIDE = 2.5
"""All steps of PGD together are so many times eps: any point of the ball can be reached."""


def fgsm(
    model: Model,
    images: Tensor,
    labels: Tensor,
    eps: float,
    *,
    value_range: Sequence[float] = (0.0, 255.0),
) -> Tensor:
    """Move every pixel by eps in the direction in which the loss grows (fast gradient sign).

    Args:
        model: differentiable, in evaluation mode.
        images: [b, channels, height, width] raw pixels, float32.
        labels: [b] int64.
        eps: the largest change of a pixel, in units of 1/255 of the value range; for images of 8
            bits, in grey levels.
        value_range: smallest and largest value of a pixel.

    Returns:
        The changed images, [b, channels, height, width] float32.

    Raises:
        InvalidSettings: eps is negative, or the range is empty.
    """
    ball = _Ball(images, eps, value_range)
    gradient, _ = _ascent(model, images, labels)
    return ball.nearest(images + ball.radius * gradient.sign())


def pgd(
    model: Model,
    images: Tensor,
    labels: Tensor,
    eps: float,
    *,
    steps: int = 20,
    restarts: int = 1,
    value_range: Sequence[float] = (0.0, 255.0),
    seed: int = 0,
) -> Tensor:
    """Climb the loss in steps, from a random start, and come back to the ball after each.

    Args:
        model: differentiable, in evaluation mode.
        images: [b, channels, height, width] raw pixels, float32.
        labels: [b] int64.
        eps: the largest change of a pixel, in units of 1/255 of the value range.
        steps: of 2.5 eps / steps each.
        restarts: random starts; for each image, one that fools the network is enough.
        value_range: smallest and largest value of a pixel.
        seed: of the random starts.

    Returns:
        The changed images, [b, channels, height, width] float32: of each the first that fooled the
        network, the last that was tried if none did, the image itself if it was wrong already.

    Raises:
        InvalidSettings: eps is negative, the range is empty, or there is no step or start.
    """
    if steps < 1 or restarts < 1:
        raise InvalidSettings(f"{steps} steps from {restarts} starts: at least 1 of each is needed")
    generator = torch.Generator().manual_seed(seed)
    found = images.clone()
    with torch.no_grad():
        standing = (model(images).argmax(1) == labels).nonzero().squeeze(1)
    if eps == 0:
        return found
    for _ in range(restarts):
        if not len(standing):
            break
        noise = 2 * torch.rand(len(standing), *images.shape[1:], generator=generator) - 1
        ball = _Ball(images[standing], eps, value_range)
        tried = ball.nearest(images[standing] + ball.radius * noise.to(images))
        fooled = _climb(model, ball, tried, labels[standing], steps)
        found[standing] = tried
        standing = standing[~fooled]
    return found


def _climb(model: Model, ball: _Ball, tried: Tensor, labels: Tensor, steps: int) -> Tensor:
    """Change images in place until they fool the model; which do, [b] bool."""
    fooled = torch.zeros(len(labels), dtype=torch.bool, device=labels.device)
    stride = ball.radius * min(1.0, STRIDE / steps)
    for step in range(steps + 1):
        left = (~fooled).nonzero().squeeze(1)
        if not len(left):
            break
        if step == steps:
            with torch.no_grad():
                fooled[left] = model(tried[left]).argmax(1) != labels[left]
            break
        gradient, wrong = _ascent(model, tried[left], labels[left])
        fooled[left] = wrong
        on = ~wrong
        moved = tried[left[on]] + stride * gradient[on].sign()
        tried[left[on]] = ball.nearest(moved, left[on])
    return fooled


class _Ball:
    """All images that differ from given ones by at most eps, within the range of values."""

    def __init__(self, images: Tensor, eps: float, value_range: Sequence[float]) -> None:
        low, high = map(float, value_range)
        if not (math.isfinite(eps) and eps >= 0) or not low < high:
            raise InvalidSettings(
                f"eps={eps} on value_range={tuple(value_range)}: eps must be at least 0, in 1/255 "
                "of the range, and the range's second value the larger"
            )
        self.radius = eps * (high - low) / 255
        # A pixel beyond the range may stay where it is: otherwise it would move by more than eps.
        self._low = (images - self.radius).clamp(min=low).minimum(images)
        self._high = (images + self.radius).clamp(max=high).maximum(images)

    def nearest(self, images: Tensor, numbers: Tensor | None = None) -> Tensor:
        """The images of the ball that are nearest; `numbers` says which these are of all."""
        low, high = self._low, self._high
        if numbers is not None:
            low, high = low[numbers], high[numbers]
        return images.clamp(low, high)


def _ascent(model: Model, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The direction in which the loss of each image grows, and whether it is wrong already.

    The gradient of the cross-entropy by the logits is p_j for the other classes j and p_y - 1 for
    the label y. Divided by 1 - p_y, it is the softmax over the other classes, and -1.
    """
    with torch.enable_grad():
        inputs = images.detach().requires_grad_()
        logits = model(inputs)
        own = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, labels[:, None], True)
        others = logits.detach().masked_fill(own, -math.inf).softmax(1)
        (gradient,) = torch.autograd.grad(logits, inputs, others - own.to(others))
    # NaN, as of a square root at 0, has no direction: such a pixel stays where it is.
    return gradient.nan_to_num(0.0), logits.detach().argmax(1) != labels
