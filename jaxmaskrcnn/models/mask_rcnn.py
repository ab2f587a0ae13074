"""Mask R-CNN (He et al., 2017): backbone, proposals, box head and mask head in one module.

Shapes: B images, H and W of the canvas, L levels, P proposal slots, R sampled regions, Q mask
slots, D detection slots, K object classes, M the side of a mask.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmaskrcnn import losses
from jaxmaskrcnn.config import ModelConfig, PoolConfig
from jaxmaskrcnn.models import proposals_tpu, rpn_windows
from jaxmaskrcnn.models.anchor_grids import batch_anchors
from jaxmaskrcnn.models.features import Backbone, Pass
from jaxmaskrcnn.models.frames import frame_of, proposal_limits
from jaxmaskrcnn.models.heads.box_stages import box_loss_terms, build_box_head, detect_boxes
from jaxmaskrcnn.models.heads.hard_examples import hard_priorities
from jaxmaskrcnn.models.heads.pooled_together import pool_first_regions
from jaxmaskrcnn.models.heads.region_head import Pooler, RegionHead
from jaxmaskrcnn.models.heads.stage_heads import build_mask_head, region_loss_terms
from jaxmaskrcnn.models.inputs import network_input
from jaxmaskrcnn.models.levels import check_maps
from jaxmaskrcnn.models.parts import build
from jaxmaskrcnn.models.pooling import pool_regions
from jaxmaskrcnn.models.precision import check_precision
from jaxmaskrcnn.models.proposals import select_proposals
from jaxmaskrcnn.models.returned import (
    check_batch,
    check_predictions,
    check_proposal_outputs,
    check_terms,
)
from jaxmaskrcnn.models.rpn import RPNHead
from jaxmaskrcnn.models.rpn_training import propose_and_sample, rpn_loss_terms
from jaxmaskrcnn.structures import Anchors, Batch, Category, Detections, LossTerm, Proposals

Array = jax.Array


class MaskRCNN(nnx.Module):
    """The detector (He et al., 2017); with ``config.mask`` None it is Faster R-CNN.

    Everything except the layers is a function of one image, mapped over the batch. Any part can be
    replaced by assigning another module that is called in the same way.

    Args:
        config: Architecture and conventions.
        rngs: Random keys of the initial weights.

    Attributes:
        config: ModelConfig.
        backbone: `Backbone`, for example a ResNet and an FPN.
        rpn: RPNHead.
        trunk: Layers between pooled regions and heads, or None.
        extractors: Layers that merge regions of all levels, for the box head and each of `region_heads`; or
            None.
        box_head: BoxHead; of a cascade an nnx.List of one for each stage.
        mask_head: MaskHead, StageHeads (one for each stage) or None.
        keypoint_head: KeypointHead, or None.
        semantic_head: SemanticHead, or None; with it the detector is a Panoptic FPN.
        extra_heads: Further region heads, those of ``config.heads``. What they predict under names that
            `Detections` does not have is in ``Detections.extra``.

    Raises:
        ConfigError: The configuration has float64 without ``JAX_ENABLE_X64``.

    Example:
        >>> config = jmr.model_config("jaxmaskrcnn/shapes", num_classes=3)
        >>> model = jmr.MaskRCNN(config, rngs=nnx.Rngs(0))  # doctest: +SKIP
        >>> batch = jmr.make_batch(model, [np.zeros((48, 64, 3), np.uint8)])
        >>> detect = jax.jit(lambda model, batch: model.detect(batch))
        >>> jax.eval_shape(detect, model, batch).boxes.shape  # one image, six slots
        (1, 6, 4)
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        check_precision(config)
        self.config = config
        c: dict[str, Any] = dict(dtype=config.compute.dtype, rngs=rngs)
        self.backbone = Backbone(config, rngs=rngs)
        self.rpn = RPNHead(config.rpn, config.levels, **c)
        self.trunk = config.trunk and build(config.trunk, config.backbone, **c)
        self.box_head = build_box_head(config, rngs)
        self.mask_head = build_mask_head(config, rngs)
        self.keypoint_head = config.keypoints and build(
            config.keypoints, config.region_channels, config.classes, **c
        )
        self.semantic_head = config.semantic and build(config.semantic, config.pooled_levels, **c)
        self.extra_heads = nnx.List(
            [build(head, config.region_channels, config.classes, **c) for head in config.heads]
        )

        self.extractors = config.extractor and nnx.List(
            [build(config.extractor, config.region_channels, **c) for _ in range(1 + len(self.region_heads))]
        )

    @property
    def region_heads(self) -> tuple[RegionHead, ...]:
        """The heads that predict something for the final boxes: masks, keypoints, and further ones."""
        heads = (self.mask_head, self.keypoint_head, *self.extra_heads)
        return tuple(head for head in heads if head is not None)

    def __call__(self, batch: Batch) -> Detections:
        """The same as `detect`.

        Args:
            batch: The batch; its targets, if any, are ignored.

        Returns:
            Detections with a leading B and ``detections.per_image`` slots, best first.
        """
        return self.detect(batch)

    @property
    def categories(self) -> tuple[Category, ...]:
        """The classes in label order; ``labels`` of a prediction are their ids."""
        return self.config.known_categories()

    def features(self, images: Array, pass_: Pass = Pass()) -> tuple[Array, ...]:  # noqa: B008
        """The levels of normalised images, see `Backbone`.

        Args:
            images: [B, H, W, 3], normalised, zero outside of each image.
            pass_: See `Pass`.

        Returns:
            One map for each of ``config.levels``, [B, h, w, C].

        Raises:
            ConfigError: They are other maps than ``config.levels`` says.
        """
        levels = self.backbone(images, pass_)
        check_maps(type(self.backbone).__name__, levels, self.config.levels, images)
        return levels

    def propose(
        self, batch: Batch, levels: Sequence[Array], train: bool = False, pass_: Pass | None = None
    ) -> tuple[Array, Array, Anchors, Proposals]:
        """Run the region proposal network.

        Args:
            batch: Gives extents and image sizes.
            levels: One map for each of ``config.levels``, [B, h, w, C].
            train: Chooses the training or the test counts of proposals.
            pass_: See `Pass`; None uses the `Pass` of a prediction.

        Returns:
            Objectness logits [B, N], deltas [B, N, 4], Anchors with a leading B, and Proposals
            with a leading B. Boxes are in the network's coordinates, see `models/frames.py`.
        """
        rpn, pass_ = self.config.rpn, pass_ or Pass(batch.extents)
        found = self.rpn(levels, pass_)
        sizes = tuple((x.shape[1], x.shape[2]) for x in levels)
        check_proposal_outputs(self.rpn, found, levels[0].shape[0], sizes, rpn.anchors.per_cell)
        objectness, deltas = found
        anchors = batch_anchors(batch.extents, sizes, self.config)
        limits = proposal_limits(batch, self.config)
        select = functools.partial(select_proposals, config=rpn, level_sizes=sizes, train=train)

        def by_anchor(levels, predicted, limits):
            del levels
            return jax.vmap(lambda arrays, size: select(*arrays, image_size=size))(predicted, limits)

        def on_tpu(levels, predicted, limits):
            del predicted
            predicted = proposals_tpu.predict(
                self.rpn.hidden(levels, pass_), proposals_tpu.Predictors.of(self.rpn)
            )
            return proposals_tpu.propose(predicted, sizes, batch.extents, limits, self.config, train)

        arrays = (tuple(levels), (objectness, deltas, anchors), limits)
        again = not train or rpn_windows.applies(self.rpn)  # batch norm would count the batch twice
        if again and proposals_tpu.applies(self.rpn, rpn, levels):
            proposals = jax.lax.platform_dependent(*arrays, tpu=on_tpu, default=by_anchor)
        else:
            proposals = by_anchor(*arrays)
        return objectness, deltas, anchors, proposals

    def pooler(self, batch: Batch, levels: Sequence[Array], train: bool = False) -> Pooler:
        """Return the features of a batch, for the box head; see `of_head`.

        Args:
            batch: Gives extents and image sizes.
            levels: One map for each of ``config.levels``, [B, h, w, C].
            train: See `Pass`.

        Returns:
            See `Pooler`.
        """
        strides = tuple(level.stride for level in self.config.pooled_levels)
        pooler = Pooler(batch, levels, strides, self.trunk, train, frame_of(batch, self.config))
        return self.of_head(pooler, 0)

    def of_head(self, pooler: Pooler, number: int) -> Pooler:
        """Return the features of a batch for a head, which may have layers of its own (``extractors``).

        Args:
            pooler: Those for the box head.
            number: 0 for the box head, 1 for the first of `region_heads`, ...

        Returns:
            See `Pooler`.
        """
        if self.extractors is None:
            return pooler
        return dataclasses.replace(pooler, extractor=self.extractors[number])

    def pool(self, batch: Batch, levels: Sequence[Array], boxes: Array, config: PoolConfig) -> Array:
        """RoIAlign of every image's boxes, each from its own level, without the trunk.

        Args:
            batch: Gives extents and image sizes.
            levels: One map for each of ``config.levels``, [B, h, w, C].
            boxes: [B, R, 4], XYXY in the network's coordinates (`models/frames.py`).
            config: Pooling settings, such as ``model.config.box.pool``.

        Returns:
            [B * R, S, S, C].
        """
        strides = tuple(level.stride for level in self.config.pooled_levels)
        return pool_regions(batch, levels, strides, boxes, config)

    def loss_terms(
        self, batch: Batch, rng: Array | None = None, *, first_position: int | Array = 0, train: bool = True
    ) -> dict[str, LossTerm]:
        """The losses as sums and counts.

        Args:
            batch: A batch with targets.
            rng: Key for sampling, a scalar; None takes the lowest indices first.
            first_position: Position of the first image in the global batch, a scalar. Random draws depend
                on an image's position there, not on its device.
            train: False leaves batch norm's statistics unchanged, for validation losses.

        Returns:
            LossTerm by name: four of `jaxmaskrcnn.losses`, and one of each further head.
            Those of a cascade's stages have "_stage0", ... at the end of their names.
        """
        check_batch("loss_terms", batch, targets=True)
        config, targets = self.config, batch.targets
        images = network_input(batch, config)
        if (frame := frame_of(batch, config)) is not None:
            assert targets is not None
            targets = targets._replace(boxes=frame.to_network(targets.boxes))
            batch = batch._replace(targets=targets)
        keys = None
        if rng is not None:
            positions = first_position + jnp.arange(images.shape[0])
            keys = jax.vmap(lambda i: jax.random.fold_in(rng, i))(positions)
        pass_ = Pass(batch.extents, keys, train)
        levels = self.features(images, pass_)
        pooler = self.pooler(batch, levels, train)
        first, keys = (None, None) if keys is None else jnp.unstack(jax.vmap(jax.random.split)(keys), axis=1)
        own = type(self).propose is not MaskRCNN.propose
        samples = propose_and_sample(self, batch, levels, pass_, first, pooler.limits, own)
        priority = None
        if config.regions.sampling == "hard":
            priority = hard_priorities(self.box_head, pooler, samples.proposals, config)
        foreground = config.box.stages[0].foreground_iou

        def sample(proposals, targets, key, priority):
            return losses.sample_regions(proposals, targets, config.regions, foreground, key, priority)

        regions = jax.vmap(sample)(samples.proposals, batch.targets, keys, priority)
        regions = self.after_sampling(regions, pooler, pass_)
        windows, _ = samples.windows
        heads = [(head, self.of_head(pooler, number)) for number, head in enumerate(self.region_heads, 1)]
        pooled = pool_first_regions(levels, pooler, regions, windows, heads, config)
        terms = rpn_loss_terms(self.rpn, samples, pooled.windows, config.rpn)
        box_terms, stages = box_loss_terms(self.box_head, pooler, regions, config, pass_, keys, pooled.box)
        terms |= box_terms
        for (head, own_pooler), features in zip(heads, pooled.heads, strict=True):
            own = region_loss_terms(head, own_pooler, stages, config, pass_, features)
            check_terms(head, own, images.shape[0], terms)
            terms |= own
        if self.semantic_head is not None:
            terms |= self.semantic_head.loss_terms(batch, levels[: len(config.pooled_levels)], pass_)
        return {
            name: LossTerm(*(jnp.where(batch.valid, x, 0).sum() for x in term))
            for name, term in terms.items()
        }

    def after_sampling(self, regions: losses.Regions, pooler: Pooler, pass_: Pass) -> losses.Regions:
        """Called with the regions that were sampled, before any head is trained on them; returns them.

        A class derived from this one may return others, with the same number of slots and the positive ones
        first, and has them without a gradient. In a cascade they are those of the first stage.

        Args:
            regions: R regions of each image, with a leading B.
            pooler: Features of the batch, and the batch with its targets.
            pass_: See `Pass`; its keys are those of the images.

        Returns:
            The regions that the heads are trained on.
        """
        del pooler, pass_
        return regions

    def losses(self, batch: Batch, rng: Array | None = None) -> dict[str, Array]:
        """The losses of a batch.

        Args:
            batch: A batch with targets.
            rng: Key for sampling, a scalar; None takes the lowest indices first.

        Returns:
            A scalar each: loss_objectness, loss_rpn_box_reg, loss_classifier, loss_box_reg and, with their
            heads, loss_mask, loss_keypoint and loss_semantic. Their sum is what training minimises.
        """
        return losses.reduce_terms(self.loss_terms(batch, rng))

    def detect(self, batch: Batch) -> Detections:
        """Detections of a batch at the scale of the network's input.

        Args:
            batch: The batch; its targets, if any, are ignored.

        Returns:
            Detections with a leading B and ``detections.per_image`` slots, best first.

        Raises:
            ConfigError: ``batch`` is no `Batch`, or a part returns arrays of other shapes than it should.
        """
        levels, found = self._detect_boxes(batch)
        pooler = self.pooler(batch, levels)
        for number, head in enumerate(self.region_heads, 1):
            predicted = head.predict(self.of_head(pooler, number), found)
            check_predictions(head, predicted, found.valid.shape)
            known = {name: value for name, value in predicted.items() if name in Detections._fields}
            extra = {name: value for name, value in predicted.items() if name not in known}
            found = found._replace(**known, extra={**(found.extra or {}), **extra} or None)
        if self.semantic_head is not None:
            pooled = levels[: len(self.config.pooled_levels)]
            found = found._replace(semantic_logits=self.semantic_head.predict(batch, pooled))
        return self._in_image(batch, found)

    def detect_boxes(self, batch: Batch) -> tuple[tuple[Array, ...], Detections]:
        """The first half of `detect`.

        Args:
            batch: As in `detect`.

        Returns:
            The levels, [B, h, w, C] each, and Detections with a leading B and ``masks=None``.
        """
        levels, found = self._detect_boxes(batch)
        return levels, self._in_image(batch, found)

    def _detect_boxes(self, batch: Batch) -> tuple[tuple[Array, ...], Detections]:
        """The same with boxes in the network's coordinates."""
        check_batch("detect", batch)
        levels = self.features(network_input(batch, self.config), Pass(batch.extents))
        _, _, _, proposals = self.propose(batch, levels)
        return levels, detect_boxes(self.box_head, self.pooler(batch, levels), proposals, self.config)

    def masks_of_boxes(
        self, batch: Batch, levels: Sequence[Array], boxes: Array, labels: Array, valid: Array
    ) -> Array:
        """Predict the masks of given boxes, from `detect` or elsewhere.

        Args:
            batch: The images that the levels were computed from; gives extents and image sizes.
            levels: One map for each of ``config.levels``, [B, h, w, C].
            boxes: [B, D, 4], XYXY in pixels of the network's input.
            labels: int [B, D], 0 to K - 1.
            valid: bool [B, D].

        Returns:
            float32 [B, D, M, M], probabilities inside of the boxes; zeros in slots that are not valid.
        """
        assert self.mask_head is not None
        frame = frame_of(batch, self.config)
        boxes = boxes if frame is None else frame.to_network(boxes)
        found = Detections(boxes, jnp.zeros(valid.shape), labels, None, valid)
        return self.mask_head.predict(self.of_head(self.pooler(batch, levels), 1), found)["masks"]

    def _in_image(self, batch: Batch, found: Detections) -> Detections:
        """Detections with their boxes in the images' coordinates, zeros where they are not valid."""
        if (frame := frame_of(batch, self.config)) is None:
            return found
        boxes = frame.to_image(found.boxes)
        return found._replace(boxes=jnp.where(found.valid[..., None], boxes, 0))
