"""The form of 8-bit layers follows from the CPU's instruction sets."""

import pytest

from optimize.int8.form import Int8Form, int8_form


@pytest.mark.parametrize(
    ("isa", "form"),
    [
        (("avx2", "avx512f", "avx512_vnni"), Int8Form("uint8", False, "avx512_vnni")),
        (("avx2", "avx_vnni"), Int8Form("uint8", False, "avx_vnni")),
        (("avx2", "avx512f", "avx512bw"), Int8Form("uint8", True, None)),
        ((), Int8Form("uint8", True, None)),
        (("asimddp", "i8mm"), Int8Form("int8", False, "i8mm")),
    ],
)
def test_only_with_vnni_or_on_arm_weights_take_all_8_bits_and_then_that_is_required(isa, form):
    assert int8_form(isa) == form
