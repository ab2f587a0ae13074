"""The training losses, computed over the evaluation data.

Anchors and regions are sampled with a fixed key, so that two evaluations of the same weights give
the same numbers. Batch norm uses its running statistics and does not update them.
"""

import jax
import numpy as np
from flax import nnx

from jaxmaskrcnn.config import DataConfig, ModelConfig
from jaxmaskrcnn.data.pipeline import eval_batches
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.losses import reduce_terms
from jaxmaskrcnn.structures import LossTerm
from jaxmaskrcnn.utils.compiler_options import compiler_options
from jaxmaskrcnn.utils.random_keys import random_key


class ValidationLoss:
    """Computes the mean losses over a data set repeatedly, but compiles only once.

    Args:
        config: The model's config, with categories.
        graphdef: The model's structure, from ``nnx.split``.
        source: Prepared data with the model's categories.
        data_config: Gives the batch size, canvases and threads of the evaluation.

    Raises:
        UserError: The data have other categories, or no masks for a model with a mask head.

    Example:
        >>> losses = ValidationLoss(model.config, graphdef, source, data_config)  # doctest: +SKIP
        >>> losses.run(params, rest)["loss"]  # doctest: +SKIP
    """

    def __init__(self, config: ModelConfig, graphdef: nnx.GraphDef, source, data_config: DataConfig):
        expected, found = ([c.id for c in x.categories] for x in (config, source))
        if expected != found:
            raise UserError(
                f"train.eval_loss needs the training data's categories in {source.annotations}: the ids are "
                f"{found} and must be {expected}; correct its list of categories, or turn it off."
            )
        if config.mask is not None and not source.has_masks:
            raise UserError(
                f"train.eval_loss needs masks, and {source.annotations} was prepared without; turn it off."
            )
        self._batches = eval_batches(source, config, data_config, targets=True)

        def validation_terms(states, batch, key):
            return nnx.merge(graphdef, *states).loss_terms(batch, key, train=False)

        self._terms = jax.jit(validation_terms, compiler_options=compiler_options())

    def run(self, *states: nnx.State) -> dict[str, float]:
        """Computes the losses.

        Args:
            *states: The model's variables, as ``nnx.split`` returns them beside the graphdef.

        Returns:
            ``loss`` and one entry per loss term, each divided by its count over the whole data set, so
            that the batch size and incomplete batches have no effect.
        """
        key = random_key(0)
        total = None
        for i, batch in enumerate(self._batches):
            terms = self._terms(states, batch, jax.random.fold_in(key, jax.device_put(np.uint32(i))))
            total = terms if total is None else {k: _add(total[k], terms[k]) for k in terms}
        if total is None:
            return {}
        losses = {name: float(value) for name, value in jax.device_get(reduce_terms(total)).items()}
        return {"loss": sum(losses.values()), **losses}


def _add(a: LossTerm, b: LossTerm) -> LossTerm:
    return LossTerm(a.total + b.total, a.count + b.count)
