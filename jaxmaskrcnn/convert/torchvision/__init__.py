"""torchvision: its names, and its models as calls of constructors."""
