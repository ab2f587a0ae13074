"""torchvision's array names, and its models as constructor calls."""
