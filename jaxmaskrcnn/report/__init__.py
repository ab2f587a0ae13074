"""Pages and plots about a model's strengths and errors."""
