"""Inline PTX: every ``asm`` statement becomes C++ that calls the functions of ``gpunn_emulator/ptx_instructions.h``.

An instruction is looked up in a table, by its name and modifiers. What is not there is refused where it would run: an
asm statement in a header, of which nothing is used, does no harm.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

from gpunn.errors import CompileError

_PTX = "gpunn_emulator::ptx::"

# --- the table --------------------------------------------------------------------------------------------------------

# An instruction: its name and modifiers, its operands, and the C++ function that computes it.
#
# Modifiers: `lo` must stand there, `a/b` is one of them, `?a/b` may be missing. `T=u32/s32` is one of them, which `{T}`
# names in the function and T among the operands; `=T` is the same once more; `R?rz/rm=rn` is `rn` if missing, and
# `Z?ftz` is true or false.
#
# Operands, those written before `=`: a type, `~T` if the register may be wider, `4*T` or `V*T` for so many in braces,
# `@A` for a register that has an address in the space A,
# `[A]` for an address in the space A, `[A,2*s32]` for one with coordinates, `#4/8` for one of these numbers, `&4*f32`
# for variables of the kernel, of which the function gets the addresses, `a|b` for two that are written, `b64?` for one
# that may be missing and means nothing to the function, `b|pred?` for one that may.
#
# The function gets what is read, unless it has parentheses: then {0}, {1}, ... are what is read.
_ROWS: list[tuple[str, str, str]] = []

_SIGNED, _UNSIGNED = "s16/s32/s64", "u16/u32/u64"
_INTEGERS = f"{_SIGNED}/{_UNSIGNED}"
_BYTES_TOO = f"s8/u8/{_INTEGERS}"
_BITS = "b16/b32/b64"
_WORDS = "u32/s32/u64/s64"
_ANY = f"{_BITS}/{_INTEGERS}/f32/f64"
_HALVES, _BRAINS = "f16/f16x2", "bf16/bf16x2"
_COMPARISONS = "eq/ne/lt/le/gt/ge"
_FLOAT_COMPARISONS = f"{_COMPARISONS}/equ/neu/ltu/leu/gtu/geu/num/nan"
_LOGIC = "and/or/xor"
_DIRECTED = "rz/rm/rp"
_SCOPES = "cta/cluster/gpu/sys"
_SHARED = "shared/shared::cta"
_CLUSTER = "shared::cluster"


def _row(modifiers: str, operands: str, function: str) -> None:
    _ROWS.append((modifiers, operands, function))


def _fill_moves() -> None:
    _row(f"mov T={_ANY}/pred/f16/bf16/f16x2/bf16x2", "T = T", "mov")
    for whole, count, part in (
        ("b64", 2, "b32"),
        ("b32", 2, "b16"),
        ("b64", 4, "b16"),
        ("b16", 2, "b8"),
        ("b32", 4, "b8"),
    ):
        _row(f"mov {whole}", f"{whole} = {count}*{part}", f"repack<{whole}>")
        _row(f"mov {whole}", f"{count}*{part} = {whole}", f"repack<Vector<{part}, {count}>>")
    _row("cvta ?to global/local/const/param u64", "u64 = u64", "mov")
    _row(f"cvta {_SHARED} u64", "u64 = u64", "to_generic")
    _row(f"cvta to {_SHARED} u64", "u64 = u64", "to_shared")
    _row(f"cvta {_CLUSTER} u64", "u64 = u64", "cluster_to_generic")
    _row(f"cvta to {_CLUSTER} u64", "u64 = u64", "to_cluster")
    _row(f"isspacep S={_SHARED}/{_CLUSTER}/global/local", "pred = u64", "is_{S}")
    _row(f"selp T={_ANY}/f16/bf16", "T = T T pred", "selp")
    _row(f"slct T={_ANY} s32", "T = T T s32", "slct")
    _row(f"slct Z?ftz T={_ANY} f32", "T = T T f32", "fslct<{Z}>")


def _fill_integers() -> None:
    for name in ("add", "sub"):
        _row(f"{name} T={_INTEGERS}", "T = T T", name)
        _row(f"{name} sat s32", "s32 = s32 s32", f"{name}_sat")
        _row(f"{name} cc T={_WORDS}", "B = B B", f"{name}_cc")
        _row(f"{name}c C?cc T={_WORDS}", "B = B B", ("addc" if name == "add" else "subc") + "<{C}>")
    _row(f"mul H=lo/hi T={_INTEGERS}", "T = T T", "mul_{H}")
    _row(f"mad H=lo/hi T={_INTEGERS}", "T = T T T", "mad_{H}")
    _row("mad hi sat s32", "s32 = s32 s32 s32", "mad_hi_sat")
    for narrow, wide in (("s16", "s32"), ("u16", "u32"), ("s32", "s64"), ("u32", "u64")):
        _row(f"mul wide {narrow}", f"{wide} = {narrow} {narrow}", "mul_wide")
        _row(f"mad wide {narrow}", f"{wide} = {narrow} {narrow} {wide}", "mad_wide")
    product = "({B})mul_{H}<{T}>({0}, {1}), ({B}){2}"
    _row(f"mad H=lo/hi cc T={_WORDS}", "T = T T T", f"add_cc({product})")
    _row(f"madc H=lo/hi C?cc T={_WORDS}", "T = T T T", f"addc<{{C}}>({product})")
    _row("mul24 H=lo/hi T=u32/s32", "T = T T", "mul24_{H}")
    _row("mad24 H=lo/hi T=u32/s32", "T = T T T", "mad24_{H}")
    _row("mad24 hi sat s32", "s32 = s32 s32 s32", "mad24_hi_sat")
    _row(f"sad T={_INTEGERS}", "T = T T T", "sad")
    for name in ("div", "rem", "min", "max"):
        _row(f"{name} T={_INTEGERS}", "T = T T", name)
    for name in ("abs", "neg"):
        _row(f"{name} T={_SIGNED}", "T = T", name)
    for name in ("popc", "clz"):
        _row(f"{name} T=b32/b64", "u32 = T", name)
    _row("brev T=b32/b64", "T = T", "brev")
    _row(f"bfind T={_WORDS}", "u32 = T", "bfind")
    _row(f"bfind shiftamt T={_WORDS}", "u32 = T", "bfind_shiftamt")
    _row(f"bfe T={_WORDS}", "T = T u32 u32", "bfe")
    _row("bfi T=b32/b64", "T = T T u32 u32", "bfi")
    for mode, wraps in (("clamp", "false"), ("wrap", "true")):
        _row(f"bmsk {mode} b32", "b32 = u32 u32", f"bmsk<{wraps}>")
        _row(f"szext {mode} T=u32/s32", "T = T u32", f"szext<{{T}}, {wraps}>")
        for side in "lr":
            _row(f"shf {side} {mode} b32", "b32 = b32 b32 u32", f"shf_{side}_{mode}")
    _row("fns b32", "b32 = b32 b32 s32", "fns")
    _row("lop3 b32", "b32 = b32 b32 b32 u32", "lop3")
    _row(f"O={_LOGIC} T={_BITS}/pred", "T = T T", "{O}")
    _row(f"not T={_BITS}/pred", "T = T", "not_")
    _row(f"cnot T={_BITS}", "T = T", "cnot")
    _row(f"shl T={_BITS}", "T = T u32", "shl")
    _row(f"shr T={_BITS}/{_INTEGERS}", "T = T u32", "shr")
    _row("prmt b32", "b32 = b32 b32 b32", "prmt")
    _row("prmt b32 M=f4e/b4e/rc8/ecl/ecr/rc16", "b32 = b32 b32 b32", "prmt_mode<Permutation::{M}>")
    _row("dp4a A=u32/s32 B=u32/s32", "b32 = A B b32", "dp4a")
    for half, high in (("lo", "false"), ("hi", "true")):
        _row(f"dp2a {half} A=u32/s32 B=u32/s32", "b32 = A B b32", f"dp2a<{{A}}, {{B}}, {high}>")
    for name in ("add", "sub", "avrg", "absdiff", "min", "max"):
        for parts in (2, 4):
            types = f"v{name}{parts} D=u32/s32 A=u32/s32 B=u32/s32 S?sat"
            _row(types, "b32 = A B b32", f"video<Video::{name}, {parts}, {{D}}, {{A}}, {{B}}, {{S}}, false>")
    for parts in (2, 4):
        function = f"video<Video::absdiff, {parts}, u32, u32, u32, false, true>"
        _row(f"vabsdiff{parts} u32 u32 u32 add", "b32 = u32 u32 b32", function)


def _fill_comparisons() -> None:
    types = (
        (_COMPARISONS, "", _SIGNED),
        (f"{_COMPARISONS}/lo/ls/hi/hs", "", _UNSIGNED),
        ("eq/ne", "", _BITS),
        (_FLOAT_COMPARISONS, "Z?ftz", "f32"),
        (_FLOAT_COMPARISONS, "", "f64"),
    )
    for comparisons, ftz, kinds in types:
        flush = "{Z}" if ftz else "false"
        _row(f"setp C={comparisons} {ftz} T={kinds}", "pred|pred? = T T", f"setp<Comparison::{{C}}, {flush}>")
        logic = f"setp_logic<Comparison::{{C}}, Logic::{{L}}, {flush}>"
        _row(f"setp C={comparisons} L={_LOGIC} {ftz} T={kinds}", "pred|pred? = T T pred", logic)
        results = "D=u32/s32/f32"
        _row(f"set C={comparisons} {ftz} {results} T={kinds}", "D = T T", f"set<{{D}}, Comparison::{{C}}, {flush}>")
        logic = f"set_logic<{{D}}, Comparison::{{C}}, Logic::{{L}}, {flush}>"
        _row(f"set C={comparisons} L={_LOGIC} {ftz} {results} T={kinds}", "D = T T pred", logic)
    for kind, ftz, flush in (("f16", "Z?ftz", "{Z}"), ("bf16", "", "false")):
        compared = f"setp C={_FLOAT_COMPARISONS} {ftz} {kind}"
        _row(compared, f"pred = {kind} {kind}", f"setp<Comparison::{{C}}, {flush}>({{0}}, {{1}}).first")
        _row(f"{compared}x2", f"pred|pred = {kind}x2 {kind}x2", f"setp_pair<Comparison::{{C}}, {flush}, {kind}>")
    tests = "finite/infinite/number/notanumber/normal/subnormal"
    _row(f"testp W={tests} T=f32/f64", "pred = T", "testp<Test::{W}>")


def _fill_floats() -> None:
    for kind, modifiers, flags in (("f32", "Z?ftz S?sat", "{Z}, {S}"), ("f64", "", "false, false")):
        for name, operation in (("add", "Sum"), ("sub", "Difference"), ("mul", "MultipliedBy")):
            function = f"arithmetic<{operation}, Rounding::{{R}}, {flags}, {kind}>({{0}}, {{1}}, 0)"
            _row(f"{name} R?{_DIRECTED}/rn=rn {modifiers} {kind}", f"{kind} = {kind} {kind}", function)
        for name in ("fma", "mad"):
            function = f"arithmetic<FusedSum, Rounding::{{R}}, {flags}, {kind}>"
            _row(f"{name} R=rn/{_DIRECTED} {modifiers} {kind}", f"{kind} = {kind} {kind} {kind}", function)
        ftz, flag = ("Z?ftz", "{Z}") if kind == "f32" else ("", "false")
        for name, read, operation, arguments in (
            ("div", f"{kind} {kind}", "Quotient", "{0}, {1}, 0"),
            ("rcp", kind, "Quotient", "1, {0}, 0"),
            ("sqrt", kind, "Root", "{0}, 0, 0"),
        ):
            function = f"arithmetic<{operation}, Rounding::{{R}}, {flag}, false, {kind}>({arguments})"
            _row(f"{name} R=rn/{_DIRECTED} {ftz} {kind}", f"{kind} = {read}", function)
        for name, function in (("abs", "fabs_"), ("neg", "fneg")):
            _row(f"{name} {ftz} {kind}", f"{kind} = {kind}", f"{function}<{flag}>")
        _row(f"copysign {kind}", f"{kind} = {kind} {kind}", "copysign")
    division = "arithmetic<Quotient, Rounding::rn, {Z}, false, f32>({0}, {1}, 0)"
    _row("div approx/full Z?ftz f32", "f32 = f32 f32", division)
    for name in ("rcp", "sqrt", "rsqrt", "sin", "cos", "lg2", "ex2"):
        _row(f"{name} approx Z?ftz f32", "f32 = f32", f"approximate<Function::{name}, {{Z}}>")
    _row("O=rcp/rsqrt approx ftz f64", "f64 = f64", "approximate<Function::{O}, false>")
    _row("rsqrt approx f64", "f64 = f64", "approximate<Function::rsqrt, false>")
    _row(f"tanh approx T=f32/{_HALVES}/{_BRAINS}", "T = T", "approximate<Function::tanh, false>")
    _row(f"ex2 approx Z?ftz T={_HALVES}", "T = T", "approximate<Function::ex2, {Z}>")
    _row(f"ex2 approx ftz T={_BRAINS}", "T = T", "approximate<Function::ex2, false>")

    for kinds, modifiers, flags in ((_HALVES, "Z?ftz S?sat", "{Z}, {S}"), (_BRAINS, "", "false, false")):
        for name in ("add", "sub", "mul"):
            _row(f"{name} ?rn {modifiers} T={kinds}", "T = T T", f"{name}16<{flags}>")
        _row(f"fma rn {modifiers} T={kinds}", "T = T T T", f"fma16<{flags}, false>")
        ftz, flag = ("Z?ftz", "{Z}") if kinds == _HALVES else ("", "false")
        _row(f"fma rn {ftz} relu T={kinds}", "T = T T T", f"fma16<{flag}, false, true>")
        for name in ("abs", "neg"):
            _row(f"{name} T={kinds}", "T = T", f"{name}16")
    for name, smallest in (("min", "true"), ("max", "false")):
        for kinds, ftz, flag in ((f"f32/{_HALVES}", "Z?ftz", "{Z}"), (_BRAINS, "", "false")):
            signs = f"{name} {ftz} N?NaN T={kinds}", f"{name} {ftz} N?NaN xorsign abs T={kinds}"
            _row(signs[0], "T = T T", f"extreme<{smallest}, {flag}, {{N}}, false>")
            _row(signs[1], "T = T T", f"extreme<{smallest}, {flag}, {{N}}, true>")
        _row(f"{name} f64", "f64 = f64 f64", f"extreme<{smallest}, false, false, false>")


def _fill_conversions() -> None:
    nearest, whole = f"R=rn/{_DIRECTED}", "R=rni/rzi/rmi/rpi"
    _row(f"cvt S?sat D={_BYTES_TOO} A={_BYTES_TOO}", "~D = ~A", "cvt_integer<{D}, {S}>")
    from_integer = "FromInteger<{D}, Rounding::{R}, {S}>::of"
    _row(f"cvt {nearest} ?ftz S?sat D=f16/bf16/f32/f64 A={_BYTES_TOO}", "D = ~A", from_integer)
    to_integer = "cvt_to_integer<{D}, Rounding::{R}, {Z}>"
    _row(f"cvt {whole} Z?ftz ?sat D={_BYTES_TOO} A=f16/bf16/f32/f64", "~D = A", to_integer)
    to_whole = "cvt_to_whole<Rounding::{R}, {Z}, {S}>"
    _row(f"cvt {whole} Z?ftz S?sat T=f16/bf16/f32/f64 =T", "T = T", to_whole)
    _row("cvt Z?ftz S?sat T=f16/bf16/f32/f64 =T", "T = T", "cvt_same<{Z}, {S}>")
    exact = "cvt_float<{D}, Rounding::rn, {Z}, {S}, false>"
    _row("cvt Z?ftz S?sat D=f32 A=f16/bf16", "D = A", exact)
    _row("cvt Z?ftz S?sat D=f64 A=f16/bf16/f32", "D = A", exact)
    rounded = "cvt_float<{D}, Rounding::{R}, {Z}, {S}, false>"
    _row(f"cvt {nearest} Z?ftz S?sat D=f32 A=f64", "D = A", rounded)
    _row(f"cvt {nearest} Z?ftz S?sat D=f16/bf16 A=f32/f64", "D = A", rounded)
    _row("cvt R=rn/rz relu D=f16/bf16 f32", "D = f32", "cvt_float<{D}, Rounding::{R}, false, false, true>")
    for kind in ("f16", "bf16"):
        _row(f"cvt R=rn/rz L?relu {kind}x2 f32", f"{kind}x2 = f32 f32", f"cvt_pair<{kind}, Rounding::{{R}}, {{L}}>")
    _row("cvt rna tf32 f32", "b32 = f32", "cvt_rna_tf32")


def _fill_memory() -> None:
    spaces = f"A?global/{_SHARED}/{_CLUSTER}/local/const/param=generic"
    hints = "?L1::evict_normal/L1::evict_unchanged/L1::evict_first/L1::evict_last/L1::no_allocate "
    hints += "?L2::evict_normal/L2::evict_first/L2::evict_last ?L2::cache_hint"
    fetched = "?L2::64B/L2::128B/L2::256B"
    types = f"V?v2/v4= T=b8/u8/s8/{_ANY}"
    strong = f"volatile {spaces}", f"relaxed {_SCOPES} {spaces}"
    _row(f"ld ?weak {spaces} ?ca/cg/cs/lu/cv ?nc {hints} {fetched} {types}", "~V*T = [A] b64?", "ld<{VT}>")
    for how in (*strong, f"acquire {_SCOPES} {spaces}"):
        _row(f"ld {how} {hints} {fetched} {types}", "~V*T = [A] b64?", "ld_strong<{VT}>")
    _row(f"st ?weak {spaces} ?wb/cg/cs/wt {hints} {types}", "[A] ~V*T b64?", "st")
    for how in strong:
        _row(f"st {how} {hints} {types}", "[A] ~V*T b64?", "st_strong<false>")
    _row(f"st release {_SCOPES} {spaces} {hints} {types}", "[A] ~V*T b64?", "st_strong<true>")
    _row(f"ldu A?global=generic {types}", "~V*T = [A]", "ld<{VT}>")

    _row("prefetch A?global/local=generic L1/L2/L2::evict_last/L2::evict_normal", "[A]", "(void)({0})")
    _row("prefetchu L1", "[generic]", "(void)({0})")
    _row("applypriority A?global=generic L2::evict_normal", "[A] b32", "(void)({0})")
    _row("discard A?global=generic L2", "[A] b32", "(void)({0})")
    priorities = "L2::evict_last/L2::evict_normal/L2::evict_first/L2::evict_unchanged"
    policy = f"createpolicy fractional {priorities} ?L2::evict_first/L2::evict_unchanged b64"
    _row(policy, "b64 = f32?", "0ull")

    order = f"M?relaxed/acquire/release/acq_rel= ?{_SCOPES} A?global/{_SHARED}/{_CLUSTER}=generic"
    for change, kinds in (
        ("add", "u32/s32/u64/s64/f32/f64"),
        ("min/max", "u32/s32/u64/s64"),
        ("inc/dec", "u32"),
        (_LOGIC, "b32/b64"),
        ("exch", "b32/b64"),
        ("add", "noftz"),
    ):
        kinds = f"noftz ?L2::cache_hint T={_HALVES}/{_BRAINS}" if kinds == "noftz" else f"?L2::cache_hint T={kinds}"
        function = "atom<Change::{O}, {releases}>"
        _row(f"atom {order} O={change} {kinds}", "T = [A] T b64?", function)
        if change != "exch":
            _row(f"red {order} O={change} {kinds}", "[A] T b64?", function)
    _row(f"atom {order} cas ?L2::cache_hint T={_BITS}", "T = [A] T T b64?", "atom_cas<{releases}>")

    to_shared = f"A={_SHARED} global ?L2::cache_hint {fetched}"
    for copy in (f"cp async ca {to_shared}", f"cp async cg {to_shared}"):
        sizes = "#4/8/16" if " ca " in copy else "#16"
        _row(copy, f"[A] [global] {sizes} b64?", "cp_async({0}, {1}, {2}, {2})")
        _row(copy, f"[A] [global] {sizes} u32 b64?", "cp_async")
        _row(copy, f"[A] [global] {sizes} pred b64?", "cp_async_unless")
    _row("cp async commit_group", "", "gpunn_emulator::async_commit()")
    _row("cp async wait_group", "u32", "gpunn_emulator::async_wait({0})")
    _row("cp async wait_all", "", "cp_async_wait_all()")


def _fill_warps_and_blocks() -> None:
    _row("shfl sync M=up/down/bfly/idx b32", "b32|pred? = b32 u32 u32 u32", "shfl<Shuffling::{M}>")
    _row("vote sync M=all/any/uni pred", "pred = pred u32", "vote_{M}")
    _row("vote sync ballot b32", "b32 = pred u32", "vote_ballot")
    _row("match any sync T=b32/b64", "b32 = T u32", "match_any")
    _row("match all sync T=b32/b64", "b32|pred? = T u32", "match_all")
    _row("activemask b32", "b32 =", "gpunn_emulator::active_mask({site})")
    _row("redux sync add T=u32/s32", "u32 = u32 u32", "redux<gpunn_emulator::Add>")
    for name in ("Min", "Max"):
        _row(f"redux sync {name.lower()} T=u32/s32", "T = T u32", f"redux<gpunn_emulator::{name}>")
    for name in ("And", "Or", "Xor"):
        _row(f"redux sync {name.lower()} b32", "b32 = b32 u32", f"redux<gpunn_emulator::{name}>")
    _row("elect sync", "b32|pred = u32", "elect")
    _row("bar warp sync", "u32", "gpunn_emulator::warp_barrier({0})")
    for name, aligned in (("bar ?cta", ""), ("barrier ?cta", "?aligned")):
        _row(f"{name} sync {aligned}", "u32", "gpunn_emulator::block_barrier(0, {site})")
        _row(f"{name} sync {aligned}", "u32 u32", "gpunn_emulator::block_barrier(all_threads({1}), {site})")
        for threads, count, predicate in (("", "0", "{1}"), ("u32 ", "all_threads({1})", "{2}")):
            vote = f"gpunn_emulator::block_barrier({count} + ({predicate}), {{site}})"
            _row(f"{name} red popc {aligned} u32", f"u32 = u32 {threads}pred", f"(u32){vote}.count")
            _row(f"{name} red and {aligned} pred", f"pred = u32 {threads}pred", f"{vote}.all != 0")
            _row(f"{name} red or {aligned} pred", f"pred = u32 {threads}pred", f"{vote}.any != 0")
    for fence in ("membar cta/gl/sys", f"fence ?sc/acq_rel/acquire/release {_SCOPES}"):
        _row(fence, "", "gpunn_emulator::note_fence()")
    _row("fence proxy alias", "", "gpunn_emulator::note_fence()")
    _row("fence proxy async global", "", "gpunn_emulator::note_fence()")
    _row("fence proxy async ?shared::cta/shared::cluster", "", "gpunn_emulator::fence_proxy(false)")
    _row("fence mbarrier_init release cluster", "", "gpunn_emulator::fence_proxy(true)")
    _row("barrier cluster arrive ?release ?aligned", "", "cluster_arrive(true)")
    _row("barrier cluster arrive relaxed ?aligned", "", "cluster_arrive(false)")
    _row("barrier cluster wait ?acquire ?aligned", "", "cluster_wait()")
    _row(f"mapa A={_CLUSTER} T=u32/u64", "T = @A u32", "mapa_shared")
    _row("mapa u64", "u64 = u64 u32", "mapa")
    _row(f"getctarank A={_CLUSTER} T=u32/u64", "u32 = @A", "getctarank((u64){0})")
    _row("getctarank u64", "u32 = u64", "getctarank")
    _row("trap", "", "gpunn_emulator::trap()")
    _row("exit", "", "gpunn_emulator::exit_thread()")
    _row("nanosleep u32", "u32", "gpunn_emulator::yield()")
    _row("griddepcontrol launch_dependents/wait", "", "(void)0")
    _row("setmaxnreg inc/dec sync aligned u32", "u32", "(void)({0})")
    _row("pmevent ?mask", "u32", "(void)({0})")


def _fill_matrices() -> None:
    for count in (1, 2, 4):
        for trans, flag in (("", "false"), ("trans", "true")):
            shape = f"sync aligned m8n8 x{count} {trans} A?{_SHARED}=generic b16"
            _row(f"ldmatrix {shape}", f"{count}*b32 = [A]", f"ldmatrix<{count}, {flag}>")
            _row(f"stmatrix {shape}", f"[A] {count}*b32", f"stmatrix<{flag}>")
    for kind, per_register in (("tf32", 1), ("f16", 2), ("bf16", 2)):
        elements = f"{kind.capitalize()}Elements"
        for halves in (1, 2):
            shape = f"mma sync aligned m16n8k{4 * per_register * halves} row col"
            fragments = f"{2 * halves}*b32 {halves}*b32"
            function = f"mma<{elements}, {elements}, {halves}, f32, false>"
            _row(f"{shape} f32 {kind} {kind} f32", f"4*f32 = {fragments} 4*f32", function)
            if kind == "f16":
                function = f"mma_f16<{elements}, {elements}, {halves}>"
                _row(f"{shape} f16 f16 f16 f16", f"2*f16x2 = {fragments} 2*f16x2", function)
    for halves in (1, 2):
        shape = f"mma sync aligned m16n8k{16 * halves} row col S?satfinite s32"
        for a in ("s8", "u8"):
            for b in ("s8", "u8"):
                function = f"mma<{a.upper()}Elements, {b.upper()}Elements, {halves}, s32, {{S}}>"
                _row(f"{shape} {a} {b} s32", f"4*s32 = {2 * halves}*b32 {halves}*b32 4*s32", function)


def _fill_mbarriers() -> None:
    own = f"A?{_SHARED}=generic b64"
    space = f"A?{_SHARED}/{_CLUSTER}=generic b64"
    _row(f"mbarrier init {own}", "[A] u32", "gpunn_emulator::mbarrier_init")
    _row(f"mbarrier inval {own}", "[A]", "gpunn_emulator::mbarrier_inval")
    for name, drops in (("arrive", "false"), ("arrive_drop", "true")):
        arrives = f"?release/relaxed ?cta/cluster {space}"
        _row(f"mbarrier {name} {arrives}", "b64 = [A]", f"mbarrier_arrive<{drops}>({{0}}, 1, 0)")
        _row(f"mbarrier {name} {arrives}", "b64 = [A] u32", f"mbarrier_arrive<{drops}>({{0}}, {{1}}, 0)")
        expects = f"mbarrier_arrive<{drops}>({{0}}, 1, {{1}})"
        _row(f"mbarrier {name} expect_tx {arrives}", "b64 = [A] u32", expects)
    for name, sign in (("expect_tx", ""), ("complete_tx", "-")):
        changes = f"mbarrier_arrive<false>({{0}}, 0, {sign}(s64){{1}})"
        _row(f"mbarrier {name} ?relaxed ?cta/cluster {space}", "[A] u32", changes)
    for name in ("test_wait", "try_wait"):
        for parity, state, flag in (("", "b64", "false"), ("parity", "u32", "true")):
            waits = f"gpunn_emulator::mbarrier_wait({{0}}, {{1}}, {flag})"
            asks = f"mbarrier {name} {parity} ?acquire/relaxed ?cta/cluster {own}"
            _row(asks, f"pred = [A] {state}", waits)
            if name == "try_wait":
                _row(asks, f"pred = [A] {state} u32", f"({{2}}, {waits})")
    _row("mbarrier pending_count b64", "u32 = b64", "(u32)({0} & 0xfffffu)")


def _fill_bulk_copies() -> None:
    hint = "?L2::cache_hint"
    complete = "mbarrier::complete_tx::bytes"
    load = f"D={_CLUSTER}/shared::cta global ?tile {complete} {hint}"
    multicast = f"{_CLUSTER} global ?tile {complete} multicast::cluster {hint}"
    store = f"global shared::cta ?tile bulk_group {hint}"
    bulk = "cp async bulk"
    _row(f"{bulk} {load}", "[D] [global] u32 [D] b64?", "gpunn_emulator::bulk_load({0}, {1}, {2}, {3}, 0)")
    places = f"[{_CLUSTER}] [global] u32 [{_CLUSTER}] u16 b64?"
    _row(f"{bulk} {multicast}", places, "bulk_multicast")
    _row(
        f"{bulk} {_CLUSTER} shared::cta {complete}",
        f"[{_CLUSTER}] [shared] u32 [{_CLUSTER}]",
        "gpunn_emulator::bulk_send",
    )
    stored = "b32/b64/u32/u64/s32/s64/f32/f64"
    for count in ("", "v2 ", "v4 "):
        row = f"st async ?weak {_CLUSTER} {complete} {count}T={stored}"
        vector = {"": "T", "v2 ": "2*T", "v4 ": "4*T"}[count]
        _row(row, f"[{_CLUSTER}] {vector} [{_CLUSTER}]", "st_async")
    _row(f"{bulk} {store}", "[global] [shared] u32 b64?", "gpunn_emulator::bulk_store")
    _row(f"{bulk} prefetch L2 global {hint}", "[global] u32 b64?", "(void)({0}), (void)({1})")
    for rank in range(1, 6):
        box = f"[generic,{rank}*s32]"
        _row(f"{bulk} tensor {rank}d {load}", f"[D] {box} [D] b64?", "tensor_load")
        places = f"[{_CLUSTER}] {box} [{_CLUSTER}] u16 b64?"
        _row(f"{bulk} tensor {rank}d {multicast}", places, "tensor_multicast")
        _row(f"{bulk} tensor {rank}d {store}", f"{box} [shared] b64?", "tensor_store")
        _row(f"{bulk} prefetch tensor {rank}d L2 global ?tile {hint}", f"{box} b64?", "tensor_prefetch")
    _row(f"{bulk} commit_group", "", "gpunn_emulator::bulk_commit()")
    _row(f"{bulk} wait_group R?read", "u32", "gpunn_emulator::bulk_wait({0}, {R})")
    _row("prefetch ?const/param tensormap", "[generic]", "(void)({0})")


def _fill_warpgroups() -> None:
    for n in range(8, 257, 8):
        for k, kinds, transposes in ((16, "f16/bf16", 2), (8, "tf32", 0)):
            product = f"wgmma mma_async sync aligned m64n{n}k{k} f32 K={kinds} =K"
            for a, from_registers in (("b64", 0), ("4*b32", 1)):
                flags = " #0/1" * max(0, transposes - from_registers)
                operands = f"&{n // 2}*f32 {a} b64 pred #1/-1 #1/-1{flags}"
                _row(product, operands, "wgmma<gpunn_emulator::WarpgroupProduct::{K}>")
    _row("wgmma fence sync aligned", "", "gpunn_emulator::warpgroup_fence()")
    _row("wgmma commit_group sync aligned", "", "gpunn_emulator::warpgroup_commit()")
    _row("wgmma wait_group sync aligned", "u32", "gpunn_emulator::warpgroup_wait({0})")


for _fill in (
    _fill_moves,
    _fill_integers,
    _fill_comparisons,
    _fill_floats,
    _fill_conversions,
    _fill_memory,
    _fill_warps_and_blocks,
    _fill_matrices,
    _fill_mbarriers,
    _fill_bulk_copies,
    _fill_warpgroups,
):
    _fill()

_THREAD, _BLOCK = "gpunn_emulator::current.thread->", "gpunn_emulator::current.block->"
_LANE_BIT = f"(1u << {_THREAD}lane)"
_CLOCK = "gpunn_emulator::nanoseconds_now()"

# What can be read of a thread and its place, and the bits of it. The device has one multiprocessor, as far as a kernel
# can see.
_SPECIAL = {
    "laneid": (f"{_THREAD}lane", 32),
    "lanemask_eq": (_LANE_BIT, 32),
    "lanemask_lt": (f"({_LANE_BIT} - 1)", 32),
    "lanemask_le": (f"({_LANE_BIT} | ({_LANE_BIT} - 1))", 32),
    "lanemask_gt": (f"~({_LANE_BIT} | ({_LANE_BIT} - 1))", 32),
    "lanemask_ge": (f"~({_LANE_BIT} - 1)", 32),
    "warpid": (f"({_PTX}number_in_block() / 32)", 32),
    "nwarpid": (f"(({_PTX}threads_of_block() + 31) / 32)", 32),
    "smid": ("0u", 32),
    "nsmid": ("1u", 32),
    "gridid": ("0ull", 64),
    "cluster_ctarank": (f"{_BLOCK}cluster_rank", 32),
    "cluster_nctarank": (f"{_BLOCK}cluster_size", 32),
    "is_explicit_cluster": (f"{_BLOCK}is_explicit_cluster", 1),
    "clock": (f"(unsigned){_CLOCK}", 32),
    "clock_hi": (f"(unsigned)({_CLOCK} >> 32)", 32),
    "clock64": (_CLOCK, 64),
    "globaltimer": (_CLOCK, 64),
    "globaltimer_lo": (f"(unsigned){_CLOCK}", 32),
    "globaltimer_hi": (f"(unsigned)({_CLOCK} >> 32)", 32),
    "dynamic_smem_size": (f"(unsigned){_BLOCK}dynamic_shared_bytes", 32),
    "total_smem_size": (f"(unsigned)({_BLOCK}dynamic_shared_bytes + {_BLOCK}static_shared_bytes)", 32),
    **{
        f"{name}.{axis}": (f"{where}{axis}", 32)
        for name, where in (
            ("tid", f"{_THREAD}index."),
            ("ntid", f"{_BLOCK}block_dim."),
            ("ctaid", f"{_BLOCK}index."),
            ("nctaid", f"{_BLOCK}grid_dim."),
            ("cluster_ctaid", f"{_BLOCK}cluster_index."),
            ("cluster_nctaid", f"{_BLOCK}cluster_dim."),
            ("clusterid", f"{_PTX}cluster_index()."),
            ("nclusterid", f"{_PTX}clusters_of_grid()."),
        )
        for axis in "xyz"
    },
}


@dataclass(frozen=True)
class _Slot:
    """A place in an instruction's name where a modifier stands."""

    values: tuple[str, ...]
    name: str = ""
    optional: bool = False
    default: str | None = None  # None: true or false says whether it stands there
    same_as: str = ""


def _slots(modifiers: str) -> list[_Slot]:
    slots = []
    for word in modifiers.split():
        if word.startswith("="):
            slots.append(_Slot((), same_as=word[1:]))
            continue
        found = re.fullmatch(r"(?:([A-Z])?([=?]))?([^=?]*)(?:=(\w*))?", word)
        assert found, word
        slots.append(_Slot(tuple(found[3].split("/")), found[1] or "", found[2] == "?", found[4]))
    return slots


@dataclass(frozen=True)
class _Row:
    slots: list[_Slot]
    written: list[str]
    read: list[str]
    function: str

    def match(self, words: list[str]) -> dict[str, str] | None:
        """What the modifiers name, or None if they are not those of the row."""
        found: dict[str, str] = {}
        at = 0
        for slot in self.slots:
            word = words[at] if at < len(words) else None
            if slot.same_as:
                if word != found[slot.same_as]:
                    return None
                at += 1
            elif word in slot.values:
                at += 1
                found[slot.name] = "true" if slot.optional and slot.default is None else str(word)
            elif slot.optional:
                found[slot.name] = "false" if slot.default is None else slot.default
            else:
                return None
        return found if at == len(words) else None


def _table() -> dict[str, list[_Row]]:
    table: dict[str, list[_Row]] = {}
    for modifiers, operands, function in _ROWS:
        written, _, read = operands.rpartition("=")
        row = _Row(_slots(modifiers), written.split(), read.split(), function)
        for name in row.slots[0].values:
            table.setdefault(name, []).append(row)
    return table


_TABLE = _table()


def instructions() -> dict[str, list[list[str]]]:
    """Of each instruction the modifiers of its rows, as the table has them.

    >>> instructions()["popc"]
    [['T=b32/b64']]
    """
    found: dict[str, list[list[str]]] = {}
    for modifiers, _, _ in _ROWS:
        first, *rest = modifiers.split()
        for name in first.rpartition("=")[2].split("/"):
            found.setdefault(name, []).append(rest)
    return found


def special_registers() -> list[str]:
    """Their names, without the percent sign."""
    return sorted(_SPECIAL)


# --- asm statements ---------------------------------------------------------------------------------------------------

_MARKER = re.compile(r'# (\d+) "([^"\n]*)"[^\n]*\n')
_SPACE = re.compile(r"(?:\s|^#[^\n]*\n)*", re.MULTILINE)
_STRING = re.compile(r'R"([^()\\\s]*)\((.*?)\)\1"|"((?:\\.|[^"\\\n])*)"', re.DOTALL)
_CHARACTER = r"'(?:\\.[^'\n]*|[^'\\\n])'"
_KEYWORD = re.compile(
    rf"{_STRING.pattern}|{_CHARACTER}|^#[^\n]*"
    r"|\b(?P<asm>(?:asm|__asm__|__asm)\b(?:\s|volatile\b|__volatile__\b|__volatile\b|goto\b)*\()",
    re.DOTALL | re.MULTILINE,
)
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]+)|([0-7]{1,3})|(.))", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "v": "\v", "f": "\f", "a": "\a", "b": "\b"}

_CONSTRAINTS = {"h": 16, "r": 32, "l": 64, "f": 32, "d": 64}


def translate(text: str) -> str:
    """The text with C++ in the place of its asm statements, of which every instruction stays on its line.

    >>> print(translate('void f(int& x) { asm("not.b32 %0, %0;" : "+r"(x)); }').replace(_PTX, ""))
    void f(int& x) { do { auto& gpunn_to_0 = (x); auto gpunn_0 = operand_of_constraint_r(gpunn_to_0); \
write(gpunn_0, not_(read<b32>(gpunn_0))); result_of_constraint_r(gpunn_to_0, gpunn_0); } while (0); }
    """
    if "asm" not in text:
        return text
    parts: list[str] = []
    since = 0
    places = _Places(text)
    number = 0
    for match in _KEYWORD.finditer(text):
        if not match["asm"] or match.start() < since:
            continue
        if _NAMES_A_FUNCTION.match(text, match.end()) and _follows_declarator(text, match.start()):
            continue
        statement = _statement(text, match.end(), places)
        if statement is None:
            continue
        number += 1
        parts += text[since : match.start()], _Translation(statement, places, match.start(), number).text()
        since = statement.end
    return "".join([*parts, text[since:]])


# What a declaration says of the name that the linker sees: headers of the C library have such.
_NAMES_A_FUNCTION = re.compile(r'\s*(?:""\s*)*"[A-Za-z_]\w*"\s*\)')
_CONTROL = re.compile(r"\b(?:if|while|for|switch)\s*\Z")


def _follows_declarator(text: str, end: int) -> bool:
    before = text[max(0, end - 2000) : end].rstrip()
    if not before.endswith(")"):
        return False
    depth, at = 1, len(before) - 1
    while depth and at:
        at -= 1
        depth += {")": 1, "(": -1}.get(before[at], 0)
    return not depth and not _CONTROL.search(before[:at])


class _Places:
    """Files and lines of offsets, which are asked for in order as a rule."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._markers = [*re.finditer(rf"^{_MARKER.pattern}", text, re.MULTILINE)]
        self._next = 0

    def at(self, offset: int) -> tuple[str, int]:
        if self._next and self._markers[self._next - 1].end() > offset:
            self._next = 0
        while self._next < len(self._markers) and self._markers[self._next].end() <= offset:
            self._next += 1
        if not self._next:
            return "kernel", 1 + self._text.count("\n", 0, offset)
        marker = self._markers[self._next - 1]
        return marker[2], int(marker[1]) + self._text.count("\n", marker.end(), offset)

    def error(self, offset: int, message: str) -> CompileError:
        file, line = self.at(offset)
        return CompileError(f"{file}:{line}: {message}")


@dataclass(frozen=True)
class _Expression:
    """An operand of an asm statement."""

    constraint: str
    text: str
    offset: int

    @property
    def kind(self) -> str:
        return self.constraint[-1]

    @property
    def written(self) -> bool:
        return self.constraint[0] in "=+"


@dataclass
class _Statement:
    template: str = ""
    offsets: list[int] = field(default_factory=list)  # of the template's characters in the source
    operands: list[_Expression] = field(default_factory=list)
    clobbers: list[str] = field(default_factory=list)
    end: int = 0


def _statement(text: str, at: int, places: _Places) -> _Statement | None:
    """The asm statement whose parenthesis opens before ``at``; None if it is not one, but names a symbol."""
    result = _Statement()
    start = at

    def skip() -> None:
        nonlocal at
        found = _SPACE.match(text, at)
        at = found.end() if found else at

    def string() -> str | None:
        nonlocal at
        skip()
        found = _STRING.match(text, at)
        if not found:
            return None
        at = found.end()
        if found[3] is None:
            content, begin = found[2], found.start(2)
            offsets = [*range(begin, begin + len(content))]
        else:
            content, offsets = _unescaped(found[3], found.start(3))
        strings.append((content, offsets))
        return content

    strings: list[tuple[str, list[int]]] = []
    while string() is not None:
        pass
    if not strings:
        return None
    result.template = "".join(content for content, _ in strings)
    result.offsets = [offset for _, offsets in strings for offset in offsets]
    section = 0
    while True:
        skip()
        if at >= len(text):
            raise places.error(start, "inline PTX: the asm statement does not end")
        if text[at] == ")":
            result.end = at + 1
            break
        if text[at] == ":":
            section += 1
            at += 1
            continue
        if text[at] == ",":
            at += 1
            continue
        begin = at
        constraint = string() if section else None
        if constraint is None or section > 3:
            what = "a name for an operand" if text[begin] == "[" else f"{text[begin : begin + 20].split()[0]!r}"
            raise places.error(begin, f"inline PTX: {what} in an asm statement is not CUDA")
        if section == 3:
            result.clobbers.append(constraint)
            continue
        skip()
        if text[at : at + 1] != "(":
            raise places.error(begin, f'inline PTX: the constraint "{constraint}" has no operand')
        close = _closing(text, at)
        operand = _Expression(constraint, text[at + 1 : close], begin)
        prefix = ("=", "+", "=&", "+&") if section == 1 else ("",)
        kinds = "".join(_CONSTRAINTS) + ("n" if section == 2 else "")
        if not constraint or constraint[-1] not in kinds or constraint[:-1] not in prefix:
            raise places.error(
                begin, f'inline PTX: the constraint "{constraint}" is not emulated, only {", ".join(kinds)}'
            )
        result.operands.append(operand)
        at = close + 1
    return result


def _unescaped(content: str, begin: int) -> tuple[str, list[int]]:
    characters: list[str] = []
    offsets: list[int] = []
    at = 0
    for match in _ESCAPE.finditer(content):
        characters += content[at : match.start()]
        offsets += range(begin + at, begin + match.start())
        if match[1] or match[2]:
            characters.append(chr(int(match[1], 16) if match[1] else int(match[2], 8)))
        else:
            characters.append(_ESCAPED.get(match[3], match[3]))
        offsets.append(begin + match.start())
        at = match.end()
    return "".join([*characters, content[at:]]), [*offsets, *range(begin + at, begin + len(content))]


def _closing(text: str, opening: int) -> int:
    depth = 0
    for match in re.compile(rf"{_STRING.pattern}|{_CHARACTER}|[()]", re.DOTALL).finditer(text, opening):
        depth += {"(": 1, ")": -1}.get(match[0], 0)
        if not depth:
            return match.start()
    return len(text)


# --- instructions -----------------------------------------------------------------------------------------------------

_OPCODE = re.compile(r"[A-Za-z]\w*(?:\s*\.\s*\w+(?:::\w+)*)*")
_NAME = re.compile(r"%%?[A-Za-z_$][\w$]*(?:\.[A-Za-z]\w*)?|[A-Za-z_$][\w$]*")
_LABEL = re.compile(r"[A-Za-z_$%][\w$%=]*\s*:(?!:)")
_BLANK = re.compile(r"(?:\s|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_NUMBER = re.compile(
    r"(-?)\s*(?:0[fF]([0-9a-fA-F]{8})|0[dD]([0-9a-fA-F]{16})"
    r"|(\d+\.\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+)"
    r"|0[xX]([0-9a-fA-F]+)U?|0[bB]([01]+)U?|(0[0-7]*)U?|(\d+)U?)(?![\w.])"
)
_DECLARATION = re.compile(r"\.reg\s*\.(\w+)\s+")
_REGISTER_BITS = {
    **{f"{kind}{bits}": bits for kind in "bus" for bits in (8, 16, 32, 64)},
    "f16": 16,
    "f16x2": 32,
    "f32": 32,
    "f64": 64,
    "pred": 1,
}
_TYPE_BITS = {**_REGISTER_BITS, "bf16": 16, "bf16x2": 32}
_FLOATS = ("f16", "bf16", "f16x2", "bf16x2", "f32", "f64")
_IDENTIFIER = re.compile(r"(?<![\w.:])[A-Za-z_]\w*")
_NO_NAMES = ("gpunn_emulator", "true", "false", "void", "ull")


@dataclass(frozen=True)
class _Operand:
    """A register, a number or several of them, as an instruction names it."""

    kind: str  # "register", "special", "constant", "integer", "float", "vector", "address" or "sink"
    text: str
    bits: int | None = None
    parts: tuple[_Operand, ...] = ()
    value: int | float = 0
    negated: bool = False


class _NotEmulated(Exception):
    """An instruction, register or directive is not in the table."""


class _Misfit(Exception):
    """The operands are not those of a row of the table."""


class _Malformed(Exception):
    """It is not PTX."""


_Fitting = tuple[_Row, dict[str, str]]


def _rows_of(opcode: str) -> list[_Fitting]:
    """The rows of the table for an instruction, with what its modifiers name in each."""
    words = opcode.split(".")
    found = [(row, row.match(words)) for row in _TABLE.get(words[0], ())]
    rows = [(row, modifiers) for row, modifiers in found if modifiers is not None]
    if not rows:
        raise _NotEmulated(f"'{opcode}'")
    return rows


class _Translation:
    """One asm statement as C++."""

    def __init__(self, statement: _Statement, places: _Places, start: int, number: int) -> None:
        self._statement, self._places, self._number = statement, places, number
        self._file, self._line = places.at(start)
        self._first = self._file, self._line
        self._source, self._at = statement.template, 0
        self._out: list[str] = []
        self._scopes: list[dict[str, tuple[str, int]]] = [{}]
        self._declared = self._sites = 0
        self._end = places.at(statement.end)

    def text(self) -> str:
        statement = self._statement
        fence = '__asm__ volatile("" ::: "memory"); ' if "memory" in statement.clobbers else ""
        self._out.append(f"do {{ {fence}")
        for i, operand in enumerate(statement.operands):
            self._go_to(operand.offset)
            expression = re.sub(r"^#[^\n]*$", "", operand.text, flags=re.MULTILINE).replace("\n", " ")
            if operand.written:
                self._out.append(f"auto& gpunn_to_{i} = ({expression}); ")
                if operand.constraint[0] == "+":
                    self._out.append(f"auto gpunn_{i} = {_PTX}operand_of_constraint_{operand.kind}(gpunn_to_{i}); ")
                else:
                    self._out.append(f"{_PTX}b{_CONSTRAINTS[operand.kind]} gpunn_{i}; ")
            elif operand.kind == "n":
                self._out.append(f"const long long gpunn_{i} = ({expression}); ")
            else:
                self._out.append(f"const auto gpunn_{i} = {_PTX}operand_of_constraint_{operand.kind}(({expression})); ")
        self._statements()
        if self._at < len(self._source):
            raise self._error(self._at, "} without {")
        for i, operand in enumerate(statement.operands):
            if operand.written:
                self._go_to(operand.offset)
                self._out.append(f"{_PTX}result_of_constraint_{operand.kind}(gpunn_to_{i}, gpunn_{i}); ")
        self._go_to(statement.end)
        self._out.append(f"{fence}}} while (0)")
        return "".join(self._out)

    def _go_to(self, offset: int) -> None:
        """What follows is on the line of that offset in the source."""
        file, line = self._places.at(offset)
        if (file, line) != (self._file, self._line):
            self._out.append(f'\n# {line} "{file}"\n')
            self._file, self._line = file, line

    def _offset(self, at: int) -> int:
        offsets = self._statement.offsets
        return offsets[min(at, len(offsets) - 1)] if offsets else self._statement.end

    def _error(self, at: int, message: str) -> CompileError:
        return self._places.error(self._offset(at), f"inline PTX: {message}")

    # --- reading ---

    def _skip(self) -> None:
        found = _BLANK.match(self._source, self._at)
        self._at = found.end() if found else self._at

    def _peek(self) -> str:
        self._skip()
        return self._source[self._at : self._at + 1]

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        self._skip()
        found = pattern.match(self._source, self._at)
        if found:
            self._at = found.end()
        return found

    def _takes(self, character: str) -> bool:
        if self._peek() != character:
            return False
        self._at += 1
        return True

    def _to_end_of_instruction(self) -> None:
        while self._at < len(self._source) and self._source[self._at] != ";":
            self._at += 1

    def _statements(self) -> None:
        while (here := self._peek()) and here != "}":
            start = self._at
            if here == ";":
                self._at += 1
            elif here == "{":
                self._at += 1
                self._out.append("{ ")
                self._scopes.append({})
                self._statements()
                if not self._takes("}"):
                    raise self._error(start, "{ without }")
                self._scopes.pop()
                self._out.append("} ")
            elif found := self._take(_LABEL):
                self._not_emulated(start, f"the label '{found[0]}'")
            elif here == ".":
                self._directive()
            else:
                self._instruction()

    def _directive(self) -> None:
        start = self._at
        found = self._take(_DECLARATION)
        if not found or found[1] not in _REGISTER_BITS:
            word = re.match(r"\.\w+(?:\s*\.\w+)*", self._source[start:])
            self._to_end_of_instruction()
            self._not_emulated(start, f"'{word[0] if word else self._source[start : self._at]}'")
            return
        kind = found[1]
        while True:
            name = self._take_name()
            if not name:
                raise self._error(self._at, f"a register's name is missing after .reg .{kind}")
            count = self._take(re.compile(r"<\s*(\d+)\s*>"))
            for i in range(int(count[1]) if count else 1):
                variable = f"gpunn_register_{self._declared}"
                self._declared += 1
                self._scopes[-1][f"{name}{i}" if count else name] = variable, _REGISTER_BITS[kind]
                self._out.append(f"{_PTX}{'pred' if kind == 'pred' else f'b{_REGISTER_BITS[kind]}'} {variable}; ")
            if not self._takes(","):
                break
        self._ends()

    def _ends(self) -> None:
        if self._peek() not in (";", ""):
            raise self._error(self._at, f"a comma or ; is missing before '{self._source[self._at :].split()[0]}'")
        self._takes(";")

    def _instruction(self) -> None:
        start = self._at
        self._go_to(self._offset(start))
        condition = ""
        try:
            if self._takes("@"):
                negated = "!" if self._takes("!") else ""
                condition = f"if ({negated}{_value(self._operand(), 'pred')}) "
            found = self._take(_OPCODE)
            if not found:
                raise _Malformed(f"'{self._source[self._at :].split()[0]}' is no instruction")
            opcode = re.sub(r"\s+", "", found[0])
            rows = _rows_of(opcode)
            operands, pair = self._operands()
            self._ends()
            code = self._code(opcode, rows, operands, pair)
            self._out.append(f"{condition}{code} ")
        except _NotEmulated as error:
            self._to_end_of_instruction()
            self._not_emulated(start, str(error))
        except (_Misfit, _Malformed) as error:
            raise self._error(start, str(error)) from None

    def _not_emulated(self, at: int, what: str) -> None:
        """Code that the compiler refuses unless it leaves it out."""
        self._go_to(self._offset(at))
        self._sites += 1
        name = f"gpunn_not_emulated_{self._number}_{self._sites}"
        message = f"inline PTX {what} is not emulated".replace("\\", "\\\\").replace('"', '\\"')
        self._out.append(f'{{ void {name}() __attribute__((error("{message}"))); {name}(); }} ')

    def _operands(self) -> tuple[list[_Operand], bool]:
        """The operands, and whether the first two are those of a pair, `p|q`."""
        operands: list[_Operand] = []
        pair = False
        if self._peek() in (";", "}", ""):
            return operands, pair
        while True:
            operands.append(self._operand())
            if len(operands) == 1 and self._takes("|"):
                pair = True
            elif not self._takes(","):
                return operands, pair

    def _operand(self) -> _Operand:
        if self._takes("{"):
            parts = [self._operand()]
            while self._takes(","):
                parts.append(self._operand())
            self._closes("}")
            return _Operand("vector", "", parts=tuple(parts))
        if self._takes("["):
            parts = [self._operand()]
            while self._takes("+"):
                parts.append(self._operand())
            coordinates = self._operand() if self._takes(",") else None
            self._closes("]")
            address = _Operand("address", "", parts=tuple(parts))
            return _Operand("place", "", parts=(address, coordinates)) if coordinates else address
        negated = self._takes("!")
        if number := self._take(_NUMBER):
            return _number(number)
        if found := self._take(re.compile(r"%(\d+)")):
            i = int(found[1])
            if i >= len(self._statement.operands):
                raise _Malformed(f"%{i} is not one of the {len(self._statement.operands)} operands")
            kind = self._statement.operands[i].kind
            if kind == "n":
                return _Operand("constant", f"gpunn_{i}")
            return _Operand("register", f"gpunn_{i}", _CONSTRAINTS[kind], negated=negated)
        if name := self._take_name():
            return self._named(name, negated)
        raise _Malformed(f"an operand is missing before '{self._source[self._at : self._at + 10].strip()}'")

    def _closes(self, character: str) -> None:
        if not self._takes(character):
            raise _Malformed(f"{character} is missing")

    def _take_name(self) -> str:
        """The name that follows; where %% begins one, NVRTC takes % as well."""
        found = self._take(_NAME)
        return re.sub("^%(?!%)", "%%", found[0]) if found else ""

    def _named(self, name: str, negated: bool) -> _Operand:
        for scope in reversed(self._scopes):
            if name in scope:
                variable, bits = scope[name]
                return _Operand("register", variable, bits, negated=negated)
        if name == "_":
            return _Operand("sink", "")
        if name == "WARP_SZ":
            return _Operand("integer", "", value=32)
        if name.startswith("%%"):
            if name[2:] in _SPECIAL:
                text, bits = _SPECIAL[name[2:]]
                return _Operand("special", text, bits)
            raise _NotEmulated(f"'{name[1:]}'")
        raise _Malformed(f"'{name}' is not declared in this asm statement")

    # --- the instruction as C++ ---

    def _code(self, opcode: str, rows: list[_Fitting], operands: list[_Operand], pair: bool) -> str:
        misfits = []
        for row, modifiers in rows:
            try:
                return self._fitted(row, modifiers, operands, pair)
            except _Misfit as error:
                misfits.append(error)
        raise _Misfit(f"'{opcode}' {misfits[0]}")

    def _fitted(self, row: _Row, modifiers: dict[str, str], operands: list[_Operand], pair: bool) -> str:
        names = dict(modifiers)
        if "T" in names:
            names["B"] = f"b{_TYPE_BITS[names['T']]}"
        rest = list(operands)
        store = "{};"
        if row.written:
            kind = row.written[0]
            if not rest:
                raise _Misfit("has too few operands")
            if "|" in kind:
                first, second = kind.split("|")
                if pair:
                    targets = [(rest.pop(0), first, ".first"), (rest.pop(0), second.rstrip("?"), ".second")]
                elif second.endswith("?"):
                    targets = [(rest.pop(0), first, ".first")]
                else:
                    raise _Misfit("writes two registers, a|b")
            elif pair:
                raise _Misfit("writes one register, not a|b")
            else:
                count, element, wide = _elements(kind, names)
                target = rest.pop(0)
                if count:
                    if target.kind != "vector" or len(target.parts) != count:
                        raise _Misfit(f"writes {count} registers in braces")
                    targets = [(part, wide + element, f".elements[{i}]") for i, part in enumerate(target.parts)]
                else:
                    targets = [(target, wide + element, "")]
            store = _store(targets, names)
        elif pair:
            raise _Misfit("writes no register")
        arguments = []
        for kind in row.read:
            optional, kind = kind.endswith("?"), kind.rstrip("?")
            if not rest:
                if optional:
                    continue
                raise _Misfit("has too few operands")
            if kind.startswith("&"):
                variables = self._variables(rest.pop(0), kind.lstrip("&"))
                pointers = ", ".join(f"&gpunn_to_{i}" for i in variables)
                arguments.append(f"{_PTX}List<float*, {len(variables)}>{{{{{pointers}}}}}")
                # The statement ends with a copy of every operand into its variable.
                copied = (f"gpunn_{i} = {_PTX}operand_of_constraint_f(gpunn_to_{i});" for i in variables)
                store = f"{{ {{}}; {' '.join(copied)} }}"
                continue
            argument = _argument(rest.pop(0), kind, names)
            if not optional:
                arguments.append(argument)
        if rest:
            raise _Misfit("has too many operands")
        return store.replace("{}", self._call(row.function, names, arguments))

    def _variables(self, operand: _Operand, kind: str) -> list[int]:
        """The numbers of the operands of the asm statement that are in braces, all of which it reads and writes."""
        count, _, _ = _elements(kind, {})
        given = {f"gpunn_{i}": i for i, each in enumerate(self._statement.operands) if each.constraint == "+f"}
        if operand.kind != "vector" or len(operand.parts) != count:
            raise _Misfit(f"needs {count} registers in braces")
        if any(part.text not in given for part in operand.parts):
            raise _Misfit('needs operands of the constraint "+f" in braces')
        return [given[part.text] for part in operand.parts]

    def _call(self, function: str, names: dict[str, str], arguments: list[str]) -> str:
        self._sites += 1
        # Barriers of the source itself are counted from 0 on.
        site = str((self._number << 12) + self._sites + (1 << 28))
        count = {"": 1, "v2": 2, "v4": 4}[names.get("V", "")]
        known = {key: _word(value) for key, value in names.items() if len(key) == 1}
        if "T" in names:
            known["VT"] = names["T"] if count == 1 else f"Vector<{names['T']}, {count}>"
        known["releases"] = str(names.get("M") in ("release", "acq_rel")).lower()
        known["site"] = site
        if "(" not in function:
            function += "(" + ", ".join(f"{{{i}}}" for i in range(len(arguments))) + ")"
        named = re.sub(r"\{([A-Za-z]+)\}", lambda match: known[match[1]], function)
        named = _IDENTIFIER.sub(lambda m: m[0] if m[0] in _NO_NAMES else _PTX + m[0], named)
        return re.sub(r"\{(\d)\}", lambda match: arguments[int(match[1])], named)


def _word(value: str) -> str:
    if value in ("and", "or", "xor"):
        return f"{value}_"
    return value.replace("shared::cta", "shared").replace("::", "_")


def _elements(kind: str, names: dict[str, str]) -> tuple[int, str, str]:
    """How many (0: one without braces), of which type, and ``~`` if the registers may be wider."""
    wide = "~" if kind.startswith("~") else ""
    count, star, element = kind.lstrip("~").rpartition("*")
    if not star:
        return 0, names.get(element, element), wide
    number = {"": 0, "v2": 2, "v4": 4}[names["V"]] if count == "V" else int(count)
    return number, names.get(element, element), wide


def _number(match: re.Match[str]) -> _Operand:
    sign = -1 if match[1] else 1
    if match[2] or match[3]:
        bits = int(match[2] or match[3], 16)
        single = match[2] is not None
        value = struct.unpack("<f" if single else "<d", bits.to_bytes(4 if single else 8, "little"))[0]
        return _Operand("float", f"0x{bits:x}", 32 if single else 64, value=sign * value)
    if match[4]:
        return _Operand("float", "", value=sign * float(match[4]))
    digits, base = next((match[i], base) for i, base in ((5, 16), (6, 2), (7, 8), (8, 10)) if match[i])
    return _Operand("integer", "", value=sign * int(digits, base))


def _check_bits(operand: _Operand, kind: str, wide: bool) -> None:
    need = _TYPE_BITS[kind]
    have = operand.bits or 0
    if have != need and (not wide or have < need or kind == "pred" or have == 1):
        what = "a predicate" if have == 1 else f"a register of {have} bits"
        raise _Misfit(f"has {what} where {'a predicate' if need == 1 else f'.{kind}'} is needed")


def _store(targets: list[tuple[_Operand, str, str]], names: dict[str, str]) -> str:
    writes = []
    for target, kind, member in targets:
        wide, kind = kind.startswith("~"), names.get(kind.lstrip("~"), kind.lstrip("~"))
        if target.kind == "sink":
            continue
        if target.kind != "register" or target.negated:
            raise _Misfit("writes a register, and has something else in its place")
        _check_bits(target, kind, wide)
        writes.append(f"{_PTX}write({target.text}, {{}}{member});")
    if len(targets) == 1 and writes and not targets[0][2]:
        return writes[0]
    rest = " ".join(write.replace("{}", "gpunn_result") for write in writes)
    return f"{{ const auto gpunn_result = {{}}; {rest} }}"


def _argument(operand: _Operand, kind: str, names: dict[str, str]) -> str:
    if kind.startswith("["):
        space, _, coordinates = kind[1:-1].partition(",")
        if not coordinates:
            return _address(operand, names.get(space, space))
        if operand.kind != "place":
            raise _Misfit("needs an address and coordinates in brackets")
        address, vector = operand.parts
        return f"{_address(address, space)}, {_argument(vector, coordinates, names).replace('Vector<', 'List<', 1)}"
    if kind.startswith("@"):
        return _address(_Operand("address", "", parts=(operand,)), names[kind[1:]])
    if kind.startswith("#"):
        allowed = [int(size) for size in kind[1:].split("/")]
        if operand.kind == "constant" or (operand.kind == "integer" and operand.value in allowed):
            return _value(operand, "u32")
        raise _Misfit(f"needs the number {' or '.join(map(str, allowed))}")
    count, element, wide = _elements(kind, names)
    if not count:
        return _value(operand, element, bool(wide))
    if operand.kind != "vector" and count == 1:
        operand = _Operand("vector", "", parts=(operand,))
    if operand.kind != "vector" or len(operand.parts) != count:
        raise _Misfit(f"needs {count} registers in braces")
    values = ", ".join(_value(part, element, bool(wide)) for part in operand.parts)
    return f"{_PTX}Vector<{_PTX}{element}, {count}>{{{{{values}}}}}"


def _value(operand: _Operand, kind: str, wide: bool = False) -> str:
    """What an instruction reads, of the type it has there."""
    bits = _TYPE_BITS[kind]
    if operand.kind in ("register", "special"):
        _check_bits(operand, kind, wide)
        if kind == "pred":
            return f"{'!' if operand.negated else ''}{operand.text}"
        if operand.negated:
            raise _Misfit("negates what is no predicate")
        return f"{_PTX}read<{_PTX}{kind}>({operand.text})"
    if operand.kind == "constant" and kind not in _FLOATS:
        return f"({operand.text} != 0)" if kind == "pred" else f"{_PTX}read<{_PTX}{kind}>({operand.text})"
    if operand.kind == "integer" and kind not in _FLOATS:
        if kind == "pred":
            return "true" if operand.value else "false"
        return f"{_PTX}read<{_PTX}{kind}>(0x{int(operand.value) & (1 << bits) - 1:x}ull)"
    if operand.kind == "float" and kind in ("f32", "f64", "b32", "b64") and operand.bits in (None, bits):
        if operand.text and operand.value == operand.value:
            operand = _Operand("float", "", value=operand.value)
        raw = operand.text or "0x" + struct.pack(">f" if bits == 32 else ">d", operand.value).hex()
        return f"{_PTX}read<{_PTX}{kind}>({raw}ull)"
    raise _Misfit(f"has no .{kind} where one is needed")


def _address(operand: _Operand, space: str) -> str:
    if operand.kind != "address":
        raise _Misfit("needs an address in brackets")
    base, *rest = operand.parts
    if base.kind not in ("register", "special") or base.bits not in (32, 64):
        raise _Misfit("needs a register that has the address")
    window = "cluster" if space == _CLUSTER else "shared" if space.startswith("shared") else "generic"
    if base.bits == 32 and window == "generic":
        raise _Misfit("has a register of 32 bits for an address of 64")
    terms = [base.text]
    for term in rest:
        if term.kind == "constant":
            terms.append(f"(unsigned long long){term.text}")
        elif term.kind == "integer":
            terms.append(f"0x{int(term.value) & (1 << 64) - 1:x}ull")
        else:
            raise _Misfit("adds to an address what is no number")
    total = " + ".join(terms)
    return f"{_PTX}{window}_pointer({f'(unsigned)({total})' if base.bits == 32 else total})"
