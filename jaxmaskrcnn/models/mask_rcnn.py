"""Mask R-CNN (He et al., 2017): backbone, proposals, box head, mask head, put together.

Shapes: B images, H and W of the canvas, L levels, P proposal slots, R sampled regions, Q mask
slots, D detection slots, K object classes, M the side of a mask.
"""

import fnmatch
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmaskrcnn import losses
from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.models.box_head import BoxHead
from jaxmaskrcnn.models.detections import select_detections
from jaxmaskrcnn.models.fpn import Backbone
from jaxmaskrcnn.models.inputs import network_input
from jaxmaskrcnn.models.mask_head import MaskHead
from jaxmaskrcnn.models.pooling import pool_regions
from jaxmaskrcnn.models.rpn import RPNHead, image_anchors, select_proposals
from jaxmaskrcnn.structures import Anchors, Batch, Category, Detections, LossTerm, Proposals

Array = jax.Array


class MaskRCNN(nnx.Module):
    """The detector (He et al., 2017); with ``config.mask_head`` False it is Faster R-CNN.

    Everything but the layers is a function of one image, mapped over the batch. Any of the four parts
    can be replaced by assigning another module that is called in the same way.

    Args:
        config: Architecture and conventions.
        rngs: For the initial weights.

    Attributes:
        config: ModelConfig.
        backbone: ResNet and FPN.
        rpn: RPNHead.
        box_head: BoxHead.
        mask_head: MaskHead, or None.

    Example:
        >>> config = jmr.model_config("jaxmaskrcnn/shapes", num_classes=3)
        >>> model = jmr.MaskRCNN(config, rngs=nnx.Rngs(0))  # doctest: +SKIP
        >>> batch = jmr.make_batch(model, [np.zeros((48, 64, 3), np.uint8)])
        >>> detect = jax.jit(lambda model, batch: model.detect(batch))
        >>> jax.eval_shape(detect, model, batch).boxes.shape  # one image, six slots
        (1, 6, 4)
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.backbone = Backbone(config, rngs=rngs)
        self.rpn = RPNHead(config, rngs=rngs)
        self.box_head = BoxHead(config, rngs=rngs)
        self.mask_head = MaskHead(config, rngs=rngs) if config.mask_head else None

    @property
    def categories(self) -> tuple[Category, ...]:
        """The classes in label order; ``labels`` of a prediction are their ids."""
        return self.config.known_categories()

    def features(self, images: Array, extents: Array | None = None, train: bool = False) -> list[Array]:
        """P2 to P6 of normalised images, see `Backbone`.

        Args:
            images: [B, H, W, 3], normalised, zero outside of each image.
            extents: int [B, 2], see `padding.py`; None where all images fill the canvas.
            train: See `ResNet`.

        Returns:
            P2 to P6, [B, h, w, C] each.
        """
        return self.backbone(images, extents, train)

    def propose(
        self, batch: Batch, levels: list[Array], train: bool = False
    ) -> tuple[Array, Array, Anchors, Proposals]:
        """Run the region proposal network.

        Args:
            batch: Gives extents and image sizes.
            levels: P2 to P6, [B, h, w, C] each.
            train: Chooses the training or the test counts of proposals; see also `ResNet`.

        Returns:
            Objectness logits [B, N], deltas [B, N, 4], Anchors with a leading B, and Proposals
            with a leading B.
        """
        objectness, deltas = self.rpn(levels, batch.extents, train)
        sizes = tuple(x.shape[1:3] for x in levels)
        anchors = jax.vmap(lambda extent: image_anchors(sizes, extent, self.config))(batch.extents)
        select = functools.partial(select_proposals, config=self.config, level_sizes=sizes, train=train)
        proposals = jax.vmap(
            lambda score, delta, anchor, size: select(score, delta, anchor, image_size=size)
        )(objectness, deltas, anchors, batch.image_sizes)
        return objectness, deltas, anchors, proposals

    def pool(self, batch: Batch, levels: list[Array], boxes: Array, size: int) -> Array:
        """RoIAlign of every image's boxes, each from its own level.

        Args:
            batch: Gives extents and image sizes.
            levels: P2 to P6, [B, h, w, C] each.
            boxes: [B, R, 4], XYXY in pixels of the network's input.
            size: Side of the output S.

        Returns:
            [B * R, S, S, C].
        """
        return pool_regions(batch, levels, boxes, size, self.config)

    def loss_terms(
        self, batch: Batch, rng: Array | None = None, *, first_position: int | Array = 0, train: bool = True
    ) -> dict[str, LossTerm]:
        """The losses as sums and counts.

        Args:
            batch: With targets.
            rng: Key for sampling, a scalar; None takes the lowest indices first.
            first_position: Place of the first image in the global batch, a scalar. Random draws depend
                on an image's place there, not on the device it is on.
            train: False keeps batch norm's statistics as they are, for validation losses.

        Returns:
            LossTerm by name: the five of `jaxmaskrcnn.losses` (four without a mask head).
        """
        config = self.config
        images = network_input(batch, config)
        levels = self.features(images, batch.extents, train)
        objectness, deltas, anchors, proposals = self.propose(batch, levels, train=True)
        keys = None
        if rng is not None:
            place = first_position + jnp.arange(images.shape[0])
            keys = jax.vmap(lambda i: jax.random.split(jax.random.fold_in(rng, i)))(place)

        def assign(objectness, deltas, anchors, proposals, targets, keys):
            first, second = (None, None) if keys is None else (keys[0], keys[1])
            terms = losses.rpn_losses(objectness, deltas, anchors, targets, config, first)
            return terms, losses.sample_regions(proposals, targets, config, second)

        targets = batch.targets
        terms, regions = jax.vmap(assign)(objectness, deltas, anchors, proposals, targets, keys)

        pooled = self.pool(batch, levels, regions.boxes, config.box_pool_size)
        mask = regions.valid.reshape(-1, 1, 1, 1)
        logits, box_deltas = self.box_head(pooled, mask, train)
        count = regions.valid.shape
        box_terms = jax.vmap(functools.partial(losses.box_losses, config=config))(
            logits.reshape(*count, -1), box_deltas.reshape(*count, -1, 4), regions, targets
        )
        terms = {**terms, **box_terms}
        if self.mask_head is not None:
            terms |= self._mask_terms(batch, levels, regions, train)
        return {
            name: LossTerm(*(jnp.where(batch.valid, x, 0).sum() for x in term))
            for name, term in terms.items()
        }

    def _mask_terms(self, batch: Batch, levels, regions: losses.Regions, train: bool) -> dict:
        # Positive regions come first and are at most this many.
        slots = int(self.config.roi_batch_size * self.config.roi_positive_fraction)
        regions = jax.tree.map(lambda x: x[:, :slots], regions)
        pooled = self.pool(batch, levels, regions.boxes, self.config.mask_pool_size)
        logits = self.mask_head(pooled, regions.positive.reshape(-1, 1, 1, 1), train)
        logits = self.mask_head.of_class(logits, regions.labels.reshape(-1))
        logits = logits.reshape(*regions.valid.shape, *logits.shape[1:])
        width = batch.images.shape[2]

        def loss(logits, regions, targets, image_size):
            return losses.mask_loss(logits, regions, targets, width, image_size, self.config)

        return jax.vmap(loss)(logits, regions, batch.targets, batch.image_sizes)

    def losses(self, batch: Batch, rng: Array | None = None) -> dict[str, Array]:
        """The losses of a batch.

        Args:
            batch: With targets.
            rng: Key for sampling, a scalar; None takes the lowest indices first.

        Returns:
            By name, each a scalar: loss_objectness, loss_rpn_box_reg, loss_classifier, loss_box_reg and,
            with a mask head, loss_mask. Their sum is what training minimises.
        """
        return losses.reduce_terms(self.loss_terms(batch, rng))

    def detect(self, batch: Batch) -> Detections:
        """Detections of a batch at the scale of the network's input.

        Args:
            batch: Without or with targets, which are not looked at.

        Returns:
            Detections with a leading B and ``detections_per_image`` slots, best first.
        """
        levels, found = self.detect_boxes(batch)
        if self.mask_head is None:
            return found
        return found._replace(
            masks=self.masks_of_boxes(batch, levels, found.boxes, found.labels, found.valid)
        )

    def detect_boxes(self, batch: Batch) -> tuple[list[Array], Detections]:
        """The first half of `detect`.

        Args:
            batch: As in `detect`.

        Returns:
            P2 to P6, [B, h, w, C] each, and Detections with a leading B and ``masks=None``.
        """
        config = self.config
        images = network_input(batch, config)
        levels = self.features(images, batch.extents)
        _, _, _, proposals = self.propose(batch, levels)
        pooled = self.pool(batch, levels, proposals.boxes, config.box_pool_size)
        logits, deltas = self.box_head(pooled)
        count = proposals.valid.shape
        found = jax.vmap(functools.partial(select_detections, config=config))(
            logits.reshape(*count, -1), deltas.reshape(*count, -1, 4), proposals, batch.image_sizes
        )
        return levels, found

    def masks_of_boxes(
        self, batch: Batch, levels: list[Array], boxes: Array, labels: Array, valid: Array
    ) -> Array:
        """Masks of given boxes, those of `detect` or any others.

        Args:
            batch: The images that the levels are of; gives extents and image sizes.
            levels: P2 to P6, [B, h, w, C] each.
            boxes: [B, D, 4], XYXY in pixels of the network's input.
            labels: int [B, D], 0 to K - 1.
            valid: bool [B, D].

        Returns:
            float32 [B, D, M, M], probabilities inside of the boxes; zeros where not valid.
        """
        pooled = self.pool(batch, levels, boxes, self.config.mask_pool_size)
        logits = self.mask_head.of_class(self.mask_head(pooled), labels.reshape(-1))
        masks = jax.nn.sigmoid(logits).reshape(*valid.shape, *logits.shape[1:])
        return jnp.where(valid[..., None, None], masks, 0)


def trainable(model: MaskRCNN, freeze: tuple[str, ...] = ()) -> Callable:
    """An nnx filter: the parameters that training updates.

    Frozen batch norm is no parameter to begin with. The stem and the first stages are left out
    as ``config.freeze_at`` says (Detectron2's FREEZE_AT; torchvision's 3 trainable layers and
    MMDetection's frozen_stages=1 are ``freeze_at=2``).

    Args:
        model: The detector.
        freeze: Glob patterns of further paths, e.g. "backbone.*" or "*.bias".

    Returns:
        A filter for ``nnx.state`` and ``nnx.split``.

    Example:
        >>> graphdef, params, rest = nnx.split(model, trainable(model, freeze=("backbone.*",)), ...)
        >>> sorted(params)
        ['box_head', 'mask_head', 'rpn']
    """
    frozen = []
    if model.config.freeze_at >= 1:
        frozen += ["backbone.body.conv1.*", "backbone.body.bn1.*"]
    frozen += [f"backbone.body.layer{i}.*" for i in range(1, model.config.freeze_at)]
    patterns = (*frozen, *freeze)

    def is_frozen(path, value):
        name = ".".join(map(str, path))
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)

    return nnx.All(nnx.Param, nnx.Not(is_frozen))


def init_model(config: ModelConfig, seed: int = 0) -> MaskRCNN:
    """A model with random weights, initialised in one compiled call.

    Args:
        config: Architecture and conventions.
        seed: Of the weights.

    Returns:
        The model; what ``MaskRCNN(config, rngs=nnx.Rngs(key))`` makes, in less time.

    Example:
        >>> model = init_model(jmr.model_config("jaxmaskrcnn/shapes"))  # doctest: +SKIP
    """
    # Run once, so code that is made quickly beats quick code.
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    build = jax.jit(lambda key: MaskRCNN(config, rngs=nnx.Rngs(key)), compiler_options=options)
    return build(jax.random.key(seed))
