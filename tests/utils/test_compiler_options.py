"""What XLA is told when it compiles a model."""

import jax
import jax.numpy as jnp
import pytest

from jaxmaskrcnn.utils.compiler_options import accepts, compiler_options


def _product(options) -> str:
    x = jax.ShapeDtypeStruct((64, 64), jnp.float32)
    return jax.jit(lambda a, b: jnp.sin(a) @ b, compiler_options=options).lower(x, x).compile().as_text()


@pytest.mark.parametrize("gradients", [False, True])
def test_products_on_cpus_are_those_of_eigen(gradients):
    assert "ynn" in _product(None)  # what XLA does by itself
    assert "dot(" in _product(compiler_options("cpu", gradients))
    assert "ynn" not in _product(compiler_options("cpu", gradients))


@pytest.mark.parametrize(
    ("asked", "limit"),
    [({}, 12288), ({"gradients": True}, None), ({"gradients": True, "sooner": True}, 8192)],
)
def test_kernels_of_tpus_may_hold_less_where_it_costs_little_or_is_asked_for(asked, limit):
    options = compiler_options("tpu", **asked)
    assert options.pop("xla_tpu_scoped_vmem_limit_kib", None) == limit
    assert options == {
        "xla_tpu_run_space_to_batch": False,
        "xla_tpu_run_space_to_batch_on_new_platforms": False,
    }


def test_answers_are_of_the_caller():
    compiler_options("tpu").clear()
    assert compiler_options("tpu")


def test_unknown_options_are_left_out_and_logged(caplog):
    option = "xla_an_option_of_this_test"  # answers are kept, so the log has a line for the first question
    assert not accepts(((option, True),))
    assert f"XLA compiles without {option}" in caplog.text
