"""AdamW against torch.optim.AdamW's rule, written out, and learning rates by layer of the backbone."""

import numpy as np
import pytest
from flax import nnx
from test_groups import Net, flat, gradients, run, settings

from jaxmaskrcnn.config import ConfigError, ModelConfig
from jaxmaskrcnn.training.optimizer import make_optimizer


def torch_adamw(values, grads_of_steps, rates, groups, betas=(0.9, 0.999), epsilon=1e-8):
    """torch.optim.AdamW.step over parameter groups: every name has a rate factor and a weight decay."""
    values = {k: v.astype(np.float64) for k, v in values.items()}
    first, second = ({k: np.zeros_like(v) for k, v in values.items()} for _ in range(2))
    for step, (grads, rate) in enumerate(zip(grads_of_steps, rates, strict=True), 1):
        for name, (factor, decay) in groups.items():
            grad = grads[name].astype(np.float64)
            values[name] = values[name] * (1 - factor * rate * decay)
            first[name] = betas[0] * first[name] + (1 - betas[0]) * grad
            second[name] = betas[1] * second[name] + (1 - betas[1]) * grad**2
            root = np.sqrt(second[name]) / np.sqrt(1 - betas[1] ** step) + epsilon
            values[name] = values[name] - factor * rate / (1 - betas[0] ** step) * first[name] / root
    return values


def test_updates_equal_torch():
    """Norm layers are exempt from the decay; a group has a rate and a decay of its own."""
    params = nnx.state(Net(), nnx.Param)
    config = settings(method="adamw", beta2=0.95, weight_decay=0.1, groups=("head.*:0.3:0.5",))
    exempt = ModelConfig().replace({"compute.weight_decay_exempts_norm": True})
    optimizer = make_optimizer(config, lambda step: 0.01, params, exempt)
    grads = gradients(params, 5)
    groups = {name: (1, 0 if name.startswith("norm") else 0.1) for name in flat(params)}
    groups |= {name: (0.3, 0.5) for name in ("head.kernel", "head.bias")}
    want = torch_adamw(flat(params), grads, [0.01] * 5, groups, (0.9, 0.95))
    for name, value in run(optimizer, params, grads)[0][-1].items():
        np.testing.assert_allclose(value, want[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_nesterov_is_for_sgd():
    with pytest.raises(ConfigError, match="optimizer.nesterov is for 'sgd', but optimizer.method is 'adamw'"):
        settings(method="adamw", nesterov=True).check()


def test_backbones_without_numbered_layers():
    params = nnx.state(Net(), nnx.Param)
    with pytest.raises(
        ConfigError, match="optimizer.layer_decay is 0.7, but the layers of the backbone 'resnet'"
    ):
        make_optimizer(settings(method="adamw", layer_decay=0.7), lambda step: 0.1, params, ModelConfig())
