"""The fused kernels compile for GPUs: to machine code, which needs no GPU; nothing is run."""

import os
import subprocess
import sys

import pytest

_SCRIPT = """
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from optimize.kernels import lookup_dots_kernel as kernels

TYPES = {"data32": "*fp32", "data16": "*fp16", "levels8": "*u8", "levels4": "*u8"}
TYPES |= {"data8": "*i8", "data4": "*i8", "scales": "*fp32", "parts": "*i32", "layout": "*i64"}
TYPES |= {"ids": "*i64", "out": "*fp32", "given": "*fp32", "places": "*i32"}
COMMON = {"FEATURES": 26, "PLACES": 30, "LONGEST": 3, "DIMENSION": 128, "PARTS_8": 3, "PARTS_4": 8}
COMMON |= {f"HAS_{kind}": True for kind in (32, 16, 8, 4)} | {"COLUMNS": 128}
DOTS = {"GIVEN": 1, "PLACED": False, "FIRST": True, "OUT": 479, "VECTORS": 32}


def made(kernel, **constants):
    names = kernel.arg_names
    kinds = {name: TYPES.get(name, "constexpr") for name in names}
    values = {(names.index(name),): value for name, value in constants.items()}
    aligned = {(names.index(name),): [["tt.divisibility", 16]] for name in TYPES if name in names}
    source = ASTSource(fn=kernel, signature=kinds, constexprs=values, attrs=aligned)
    return compile(source, target=GPUTarget("cuda", 90, 32)).asm


for kernel, own in ((kernels.vectors_kernel, {"VECTORS": 16}), (kernels.dots_kernel, DOTS)):
    found = made(kernel, **COMMON, **own)
    assert len(found["cubin"]) > 1000
    print(found["ptx"].count("ld.global.v4"), "loads of 16 bytes")
"""


def test_both_kernels_become_machine_code_that_reads_rows_16_bytes_at_a_time(tmp_path):
    pytest.importorskip("triton")
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-c", _SCRIPT],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    counts = [int(line.split()[0]) for line in ended.stdout.splitlines() if "16 bytes" in line]
    assert len(counts) == 2
    assert min(counts) > 0
