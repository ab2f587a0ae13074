"""AdamW against torch.optim.AdamW's rule, written out, and learning rates by layer of the backbone."""

import jax
import numpy as np
import pytest
from flax import nnx
from test_groups import Net, flat, gradients, run, settings

from jaxmaskrcnn.config import ConfigError, ConvNeXtConfig, ModelConfig, ViTConfig
from jaxmaskrcnn.training.groups import layer_factors, parameter_names
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
    with pytest.raises(
        ConfigError, match="optimizer.nesterov is for 'sgd' and 'lars', but optimizer.method is 'adamw'"
    ):
        settings(method="adamw", nesterov=True).check()


# Typed in from Detectron2's get_vit_lr_decay_rate and MMDetection's get_layer_id_for_convnext, by path here.
LAYERS = {
    ViTConfig(): {
        "pos_embed": 0, "patch_embed.proj.bias": 0, "blocks.0.attn.qkv.kernel": 1,
        "blocks.11.norm2.scale": 12, "": 13,
    },
    ConvNeXtConfig(): {
        "downsample_layers.0.conv.kernel": 0, "downsample_layers.1.norm.scale": 2,
        "downsample_layers.3.conv.bias": 6,
        "stages.0.2.gamma": 1, "stages.1.0.gamma": 2, "stages.2.0.gamma": 3, "stages.2.8.gamma": 5,
        "stages.3.0.gamma": 6, "norms.3.scale": 7, "": 7,
    },
    ConvNeXtConfig(blocks=(3, 3, 27, 3)): {
        "stages.2.26.gamma": 11, "stages.3.1.gamma": 12, "norms.0.bias": 13,
    },
}  # fmt: skip


@pytest.mark.parametrize("config", LAYERS, ids=lambda config: config.kind)
def test_layers_of_the_libraries(config):
    assert {path: config.layer_of(path) for path in LAYERS[config]} == LAYERS[config]


class Detector(nnx.Module):
    def __init__(self):
        self.backbone = nnx.Dict(
            body=nnx.Dict(pos_embed=nnx.Param(np.ones(2)), blocks=nnx.List([Net(), Net()]))
        )
        self.head = nnx.Linear(3, 2, rngs=nnx.Rngs(1))


def test_rates_by_layer():
    params = nnx.state(Detector(), nnx.Param)
    config = ViTConfig(depth=2, global_blocks=())
    factors = dict(
        zip(parameter_names(params), jax.tree.leaves(layer_factors(params, config, 0.5)), strict=True)
    )
    assert factors["backbone.body.pos_embed"] == 0.5**3
    assert factors["backbone.body.blocks.0.body.kernel"] == 0.5**2
    assert factors["backbone.body.blocks.1.norm.scale"] == 0.5
    assert factors["head.bias"] == 1


def test_backbones_without_numbered_layers():
    params = nnx.state(Net(), nnx.Param)
    with pytest.raises(
        ConfigError, match="optimizer.layer_decay is 0.7, but the layers of the backbone 'resnet'"
    ):
        make_optimizer(settings(method="adamw", layer_decay=0.7), lambda step: 0.1, params, ModelConfig())
