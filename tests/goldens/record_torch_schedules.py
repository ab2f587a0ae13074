"""Records learning rates of torch's schedulers, and values that are clipped and trained by its functions.

Writes torch_schedules.npz. Needs torch. Run from the root of the repository:
``python tests/goldens/record_torch_schedules.py``.
"""

from pathlib import Path

import numpy as np
import torch
from torch.optim import lr_scheduler

STEPS = 60
SCHEDULERS = {
    "polynomial": lambda o: lr_scheduler.PolynomialLR(o, STEPS, power=0.9),
    "exponential": lambda o: lr_scheduler.ExponentialLR(o, gamma=0.1 ** (1 / 25)),
    "cosine_end": lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS, eta_min=0.05),
    "restarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=13, eta_min=0.05),
    "growing_restarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=7, T_mult=2),
}


def rates(make) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    scheduler, found = make(optimizer), []
    for _ in range(STEPS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def clipped(rng, out) -> None:
    """Two parameters whose gradients are clipped by value and then by norm."""
    gradients = [rng.normal(size=shape).astype(np.float32) for shape in ((3, 4), (5,))]
    parameters = [torch.zeros(g.shape, requires_grad=True) for g in gradients]
    for p, g in zip(parameters, gradients, strict=True):
        p.grad = torch.tensor(g)
    torch.nn.utils.clip_grad_value_(parameters, 0.7)
    torch.nn.utils.clip_grad_norm_(parameters, 1.5)
    for i, (p, g) in enumerate(zip(parameters, gradients, strict=True)):
        out[f"gradient_{i}"], out[f"clipped_{i}"] = g, p.grad.numpy()


def main():
    out = {name: np.array(rates(make)) for name, make in SCHEDULERS.items()}
    clipped(np.random.default_rng(0), out)
    out["versions"] = np.array(f"torch {torch.__version__}")
    np.savez_compressed(Path(__file__).with_name("torch_schedules.npz"), **out)


if __name__ == "__main__":
    main()
