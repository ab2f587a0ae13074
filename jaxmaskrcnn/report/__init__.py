"""Pages and plots that tell what a model does well and badly."""
