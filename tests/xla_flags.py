"""XLA's flags in tests, to be set before JAX is imported."""

import importlib.metadata

# Most of a test run is compilation, because the programs are small and run only a few times. Without XLA's
# optimisation it takes half the time, and with LLVM's older emitters for fusions half of that again: a
# training step of a narrow Faster R-CNN, its test and all, 14 s of processor time in place of 23 s
# (jaxlib 0.10.2). A jaxlib that does not know a flag ends the process, so that one is for this version alone.
QUICK = "--xla_backend_optimization_level=0"
if importlib.metadata.version("jaxlib").startswith("0.10."):
    QUICK += " --xla_cpu_use_fusion_emitters=false"
