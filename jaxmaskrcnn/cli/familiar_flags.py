"""What flags of other programs are called here, for the messages of ``train``."""

# By the flag without its dashes, and with dashes inside of it as underscores.
FAMILIAR_FLAGS = {
    "epochs": "--config.train.epochs",
    "max_epochs": "--config.train.epochs",
    "batch": "--config.data.batch_size",
    "batch_size": "--config.data.batch_size",
    "imgsz": "--config.data.min_sizes and --config.model.input.test_min_size",
    "img_size": "--config.data.min_sizes and --config.model.input.test_min_size",
    "lr": "--config.optimizer.learning_rate",
    "lr0": "--config.optimizer.learning_rate",
    "momentum": "--config.optimizer.momentum",
    "weight_decay": "--config.optimizer.weight_decay",
    "optimizer": "--config.optimizer.method",
    "warmup_epochs": "--config.optimizer.warmup_steps",
    "lr_steps": "--config.optimizer.decay_steps",
    "seed": "--config.train.seed",
    "patience": "--config.train.patience",
    "freeze": "--config.optimizer.freeze or --config.model.backbone.freeze_at",
    "weights": "--config.model.weights",
    "data": "--config.data.train_annotations, --config.data.train_images and the same of eval",
    "model": "--config=finetune:PRESET",
    "workers": "--config.data.threads",
    "num_workers": "--config.data.threads",
    "output_dir": "--workdir",
    "work_dir": "--workdir",
    "project": "--workdir",
    "amp": "--config.model.compute.dtype=bfloat16",
    "cos_lr": "--config.optimizer.schedule=cosine",
}


def familiar(flag: str) -> str | None:
    """Return what a flag of another program is called here, or None.

    Example:
        >>> familiar("--lr0"), familiar("--batch-size"), familiar("--nothing")
        ('--config.optimizer.learning_rate', '--config.data.batch_size', None)
    """
    return FAMILIAR_FLAGS.get(flag.partition("=")[0].lstrip("-").replace("-", "_").lower())
