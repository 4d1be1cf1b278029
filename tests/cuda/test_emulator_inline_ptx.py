"""Inline PTX, emulated: every instruction against a formula of its own, in exact integers and fractions."""

import math
import random
import struct
from fractions import Fraction

import numpy as np
import pytest

from gpunn.cuda import compiler
from gpunn.cuda.emulator import CheckError, RawKernel, RawModule
from gpunn.errors import CompileError

i32, u32, f32 = np.int32, np.uint32, np.float32

# --- instructions of one thread ---------------------------------------------------------------------------------------

# A type of PTX: its letter in an asm statement, its C++ type, NumPy's.
TYPES = {
    "u16": ("h", "unsigned short", np.uint16),
    "s16": ("h", "short", np.int16),
    "u32": ("r", "unsigned", np.uint32),
    "s32": ("r", "int", np.int32),
    "u64": ("l", "unsigned long long", np.uint64),
    "s64": ("l", "long long", np.int64),
    "f32": ("f", "float", np.float32),
    "f64": ("d", "double", np.float64),
    "f16": ("h", "unsigned short", np.uint16),
    "bf16": ("h", "unsigned short", np.uint16),
}
SAMPLES = 128


def integers(kind, rng):
    bits = int(kind[1:])
    edges = [0, 1, 2, 3, 7, 15, 16, 31, 32, 33, 63, 64, 65, 255, 256, -1, -2, 1 << (bits - 1), (1 << (bits - 1)) - 1]
    edges += [0x80, 0x8000, 0x7F, 0xFF00FF00, 0x01020304]
    value = rng.choice(edges) if rng.random() < 0.5 else rng.getrandbits(rng.choice([bits, 8, 4]))
    return wrap(value, kind)


def wrap(value, kind):
    bits = int(kind[1:])
    value &= (1 << bits) - 1
    return value - (1 << bits) if kind[0] == "s" and value >> (bits - 1) else value


# Digits, smallest exponent, largest exponent, of the format's normal numbers.
FORMATS = {"f16": (11, -14, 15), "bf16": (8, -126, 127), "f32": (24, -126, 127), "f64": (53, -1022, 1023)}


def rounded(value, kind, mode="rn"):
    """A fraction in a format: the one definition of rounding, by which all floating-point results are judged."""
    digits, lowest, highest = FORMATS[kind]
    if not value:
        return 0.0
    negative, size = value < 0, abs(value)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    exponent -= size < Fraction(2) ** exponent
    step = Fraction(2) ** (max(exponent, lowest) - digits + 1)
    whole, rest = divmod(size / step, 1)
    up = {"rn": rest > Fraction(1, 2) or (rest == Fraction(1, 2) and whole % 2), "rz": False}
    away = up.get(mode, rest > 0 and negative == (mode == "rm"))
    size = (whole + bool(away)) * step
    largest = (2 - Fraction(2) ** (1 - digits)) * Fraction(2) ** highest
    if size > largest:
        to_infinity = mode == "rn" or (mode != "rz" and negative == (mode == "rm"))
        size = math.inf if to_infinity else largest
    return -float(size) if negative else float(size)


def floats(kind, rng):
    digits, lowest, highest = FORMATS[kind]
    edges = [0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5, math.inf, -math.inf, math.nan]
    edges += [
        2.0**lowest,
        -(2.0 ** (lowest - 2)),
        (2 - 2.0 ** (1 - digits)) * 2.0**highest,
        127.5,
        255.5,
        65504.0,
        -3e9,
    ]
    if rng.random() < 0.4:
        value = rng.choice(edges)
    else:
        spread = rng.choice([1, 8, min(highest, 60)])
        value = rng.uniform(-2, 2) * 2.0 ** rng.randint(-min(spread, -lowest + 5), spread)
    return value if math.isinf(value) or math.isnan(value) else signed_zero(rounded(Fraction(value), kind), value)


def signed_zero(value, like):
    return math.copysign(0.0, like) if value == 0 else value


def sample(kind, rng):
    return floats(kind, rng) if kind in FORMATS else integers(kind, rng)


def to_array(values, kind):
    if kind == "bf16":
        return (np.array(values, f32).view(u32) >> 16).astype(np.uint16)
    if kind == "f16":
        return np.array(values, np.float16).view(np.uint16)
    return np.array(values, TYPES[kind][2])


def to_values(array, kind):
    if kind == "bf16":
        return (array.astype(u32) << 16).view(f32).tolist()
    return (array.view(np.float16) if kind == "f16" else array).tolist()


CASES = []


def case(text, signature, formula, tolerance=0.0):
    """An instruction with %0 = f(%1, %2, ...), the types of these, and what it must give."""
    result, _, operands = signature.partition("=")
    CASES.append((text, result, operands.split(","), formula, tolerance))


def clamp(value, kind):
    bits = int(kind[1:])
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if kind[0] == "s" else (0, (1 << bits) - 1)
    return min(max(value, low), high)


def bits_of(value, kind):
    return value & ((1 << int(kind[1:])) - 1)


def low24(value, kind):
    value &= 0xFFFFFF
    return value - (1 << 24) if kind[0] == "s" and value >> 23 else value


def integer_cases():
    for t in ("u16", "s16", "u32", "s32", "u64", "s64"):
        n = int(t[1:])
        three = f"{t}={t},{t},{t}"
        case(f"add.{t} %0, %1, %2;", f"{t}={t},{t}", lambda a, b: a + b)
        case(f"sub.{t} %0, %1, %2;", f"{t}={t},{t}", lambda a, b: a - b)
        case(f"mul.lo.{t} %0, %1, %2;", f"{t}={t},{t}", lambda a, b: a * b)
        case(f"mul.hi.{t} %0, %1, %2;", f"{t}={t},{t}", lambda a, b, n=n: a * b >> n)
        case(f"mad.lo.{t} %0, %1, %2, %3;", three, lambda a, b, c: a * b + c)
        case(f"mad.hi.{t} %0, %1, %2, %3;", three, lambda a, b, c, n=n: (a * b >> n) + c)
        case(f"sad.{t} %0, %1, %2, %3;", three, lambda a, b, c: c + abs(a - b))
        case(f"min.{t} %0, %1, %2;", f"{t}={t},{t}", min)
        case(f"max.{t} %0, %1, %2;", f"{t}={t},{t}", max)
        # Divided by an odd number, which is neither 0 nor -1.
        quotient = f"{{ .reg .{t} d; or.b{n} d, %2, 1; min.{t} d, d, {(1 << (n - 1)) - 1}; max.{t} d, d, 1; "
        quotient += f"OP.{t} %0, %1, d; }}"
        case(quotient.replace("OP", "div"), f"{t}={t},{t}", lambda a, b, t=t, n=n: divide(a, b, t)[0])
        case(quotient.replace("OP", "rem"), f"{t}={t},{t}", lambda a, b, t=t, n=n: divide(a, b, t)[1])
        case(f"shr.{t} %0, %1, %2;", f"{t}={t},u32", lambda a, b: a >> min(b, 200))
        if t[0] == "s":
            case(f"abs.{t} %0, %1;", f"{t}={t}", abs)
            case(f"neg.{t} %0, %1;", f"{t}={t}", lambda a: -a)
        else:
            b = f"b{n}"
            case(f"shl.{b} %0, %1, %2;", f"{t}={t},u32", lambda a, b: a << min(b, 200))
            case(f"and.{b} %0, %1, %2;", f"{t}={t},{t}", lambda a, b: a & b)
            case(f"or.{b} %0, %1, %2;", f"{t}={t},{t}", lambda a, b: a | b)
            case(f"xor.{b} %0, %1, %2;", f"{t}={t},{t}", lambda a, b: a ^ b)
            case(f"not.{b} %0, %1;", f"{t}={t}", lambda a: ~a)
            case(f"cnot.{b} %0, %1;", f"{t}={t}", lambda a: int(a == 0))
            case(f"selp.{b} %0, %1, %2, p;", f"{t}={t},{t}", lambda a, b: a if a > b else b)
        case(f"slct.{t}.s32 %0, %1, %2, %3;", f"{t}={t},{t},s32", lambda a, b, c: a if c >= 0 else b)
        case(f"slct.{t}.f32 %0, %1, %2, %3;", f"{t}={t},{t},f32", lambda a, b, c: a if c >= 0 else b)
    for narrow, wide in (("u16", "u32"), ("s16", "s32"), ("u32", "u64"), ("s32", "s64")):
        case(f"mul.wide.{narrow} %0, %1, %2;", f"{wide}={narrow},{narrow}", lambda a, b: a * b)
        case(f"mad.wide.{narrow} %0, %1, %2, %3;", f"{wide}={narrow},{narrow},{wide}", lambda a, b, c: a * b + c)
    case("add.sat.s32 %0, %1, %2;", "s32=s32,s32", lambda a, b: clamp(a + b, "s32"))
    case("sub.sat.s32 %0, %1, %2;", "s32=s32,s32", lambda a, b: clamp(a - b, "s32"))
    case("mad.hi.sat.s32 %0, %1, %2, %3;", "s32=s32,s32,s32", lambda a, b, c: clamp((a * b >> 32) + c, "s32"))
    for t in ("u32", "s32"):
        product = lambda a, b, t=t: low24(a, t) * low24(b, t)  # noqa: E731
        case(f"mul24.lo.{t} %0, %1, %2;", f"{t}={t},{t}", product)
        case(f"mul24.hi.{t} %0, %1, %2;", f"{t}={t},{t}", lambda a, b, p=product: p(a, b) >> 16)
        case(f"mad24.lo.{t} %0, %1, %2, %3;", f"{t}={t},{t},{t}", lambda a, b, c, p=product: p(a, b) + c)
        case(f"mad24.hi.{t} %0, %1, %2, %3;", f"{t}={t},{t},{t}", lambda a, b, c, p=product: (p(a, b) >> 16) + c)
        for mode in ("wrap", "clamp"):
            case(f"szext.{mode}.{t} %0, %1, %2;", f"{t}={t},u32", lambda a, b, m=mode, t=t: szext(a, b, m, t))
    for t in ("u32", "s32", "u64", "s64"):
        n = int(t[1:])
        case(f"bfe.{t} %0, %1, %2, %3;", f"{t}={t},u32,u32", lambda a, b, c, t=t: bfe(a, b, c, t))
        case(f"bfind.{t} %0, %1;", f"u32={t}", lambda a: ((~a if a < 0 else a).bit_length() or 1 << 32) - 1)
        case(f"bfind.shiftamt.{t} %0, %1;", f"u32={t}", lambda a, n=n: shift_amount(a, n))
    for t in ("u32", "u64"):
        n = int(t[1:])
        case(f"bfi.b{n} %0, %1, %2, %3, %4;", f"{t}={t},{t},u32,u32", lambda a, b, c, d, n=n: bfi(a, b, c, d, n))
        case(f"popc.b{n} %0, %1;", f"u32={t}", lambda a: bin(a).count("1"))
        case(f"clz.b{n} %0, %1;", f"u32={t}", lambda a, n=n: n - a.bit_length())
        case(f"brev.b{n} %0, %1;", f"{t}={t}", lambda a, n=n: int(f"{a:0{n}b}"[::-1], 2))
    for mode in ("wrap", "clamp"):
        case(f"bmsk.{mode}.b32 %0, %1, %2;", "u32=u32,u32", lambda a, b, m=mode: bmsk(a, b, m))
        for side in "lr":
            case(
                f"shf.{side}.{mode}.b32 %0, %1, %2, %3;",
                "u32=u32,u32,u32",
                lambda a, b, c, s=side, m=mode: funnel(a, b, c, s, m),
            )
    case("fns.b32 %0, %1, %2, %3;", "u32=u32,u32,s32", fns)
    for table in (0x80, 0x96, 0xCA, 0xE8, 0x1B, 0x01, 0x00, 0xFF):
        case(f"lop3.b32 %0, %1, %2, %3, {table};", "u32=u32,u32,u32", lambda a, b, c, t=table: lop3(a, b, c, t))
    case("prmt.b32 %0, %1, %2, %3;", "u32=u32,u32,u32", prmt)
    # What bytes each mode takes, the lowest first, by the low bits of the selector.
    modes = {
        "f4e": ["0123", "1234", "2345", "3456"],
        "b4e": ["0765", "1076", "2107", "3210"],
        "rc8": ["0000", "1111", "2222", "3333"],
        "ecl": ["0123", "1123", "2223", "3333"],
        "ecr": ["0000", "0111", "0122", "0123"],
        "rc16": ["0101", "2323", "0101", "2323"],
    }
    for mode, picks in modes.items():
        case(f"prmt.b32.{mode} %0, %1, %2, %3;", "u32=u32,u32,u32", lambda a, b, c, p=picks: pick(a, b, p[c & 3]))
    for a, b in (("u32", "u32"), ("u32", "s32"), ("s32", "u32"), ("s32", "s32")):
        case(
            f"dp4a.{a}.{b} %0, %1, %2, %3;",
            "s32=u32,u32,s32",
            lambda x, y, z, a=a, b=b: z + sum(p * q for p, q in zip(parts(x, a, 8), parts(y, b, 8), strict=True)),
        )
        for half in ("lo", "hi"):
            case(
                f"dp2a.{half}.{a}.{b} %0, %1, %2, %3;",
                "s32=u32,u32,s32",
                lambda x, y, z, a=a, b=b, h=2 * (half == "hi"): (
                    z + sum(p * q for p, q in zip(parts(x, a, 16), parts(y, b, 8)[h : h + 2], strict=True))
                ),
            )
    video = {
        "add": lambda x, y: x + y,
        "sub": lambda x, y: x - y,
        "absdiff": lambda x, y: abs(x - y),
        "min": min,
        "max": max,
        "avrg": lambda x, y: (x + y + (x + y >= 0)) >> 1,
    }
    for name, operation in video.items():
        for width, count in ((8, 4), (16, 2)):
            for t in ("u32", "s32"):
                for sat in ("", ".sat"):
                    case(
                        f"v{name}{count}.{t}.{t}.{t}{sat} %0, %1, %2, %3;",
                        "u32=u32,u32,u32",
                        lambda a, b, _, o=operation, w=width, t=t, sat=sat: packed(o, a, b, w, t, sat),
                    )
    case(
        "vabsdiff4.u32.u32.u32.add %0, %1, %2, %3;",
        "u32=u32,u32,u32",
        lambda a, b, c: c + sum(abs(x - y) for x, y in zip(parts(a, "u32", 8), parts(b, "u32", 8), strict=True)),
    )


def divide(a, b, t):
    d = wrap(b | 1, t)
    d = max(min(d, (1 << (int(t[1:]) - 1)) - 1), 1)
    quotient = abs(a) // d * (-1 if a < 0 else 1)
    return quotient, a - quotient * d


def szext(a, width, mode, kind):
    n = width % 32 if mode == "wrap" else min(width, 32)
    low = a & ((1 << n) - 1)
    return low - (1 << n) if kind[0] == "s" and n and low >> (n - 1) else low


def bfe(a, position, length, kind):
    n, position, length = int(kind[1:]), position & 255, length & 255
    if not length:
        return 0
    bits = bits_of(a, kind)
    sign = bits >> min(position + length - 1, n - 1) & 1 if kind[0] == "s" else 0
    return sum((bits >> (position + i) & 1 if i < length and position + i < n else sign) << i for i in range(n))


def bfi(a, b, position, length, n):
    position, length = position & 255, length & 255
    for i in range(length):
        if position + i < n:
            b = b & ~(1 << (position + i)) | (a >> i & 1) << (position + i)
    return b


def shift_amount(a, n):
    last = (~a if a < 0 else a).bit_length() - 1
    return n - 1 - last if last >= 0 else 0xFFFFFFFF


def bmsk(a, b, mode):
    if mode == "wrap":
        a, b = a % 32, b % 32
    return sum(1 << i for i in range(32) if a <= i < a + b)


def funnel(a, b, c, side, mode):
    c = c % 32 if mode == "wrap" else min(c, 32)
    both = b << 32 | a
    return both << c >> 32 if side == "l" else both >> c


def fns(mask, base, n):
    if base > 31:
        return 0xFFFFFFFF
    if n == 0:
        return base if mask >> base & 1 else 0xFFFFFFFF
    places = [i for i in range(32) if mask >> i & 1]
    found = [i for i in places if i >= base] if n > 0 else [i for i in places if i <= base][::-1]
    return found[abs(n) - 1] if abs(n) <= len(found) else 0xFFFFFFFF


def lop3(a, b, c, table):
    return sum((table >> (4 * (a >> i & 1) + 2 * (b >> i & 1) + (c >> i & 1)) & 1) << i for i in range(32))


def pick(a, b, digits):
    together = struct.pack("<II", a, b)
    return int.from_bytes(bytes(together[int(d)] for d in digits), "little")


def prmt(a, b, c):
    result = 0
    for i in range(4):
        byte = pick(a, b, str(c >> 4 * i & 7))
        result |= (255 * (byte >> 7) if c >> 4 * i & 8 else byte) << 8 * i
    return result


def parts(a, kind, width):
    return [wrap(a >> shift, f"{kind[0]}{width}") for shift in range(0, 32, width)]


def packed(operation, a, b, width, kind, sat):
    result = 0
    for i, (x, y) in enumerate(zip(parts(a, kind, width), parts(b, kind, width), strict=True)):
        value = operation(x, y)
        value = clamp(value, f"{kind[0]}{width}") if sat else value
        result |= (value & ((1 << width) - 1)) << width * i
    return result


def exact(function, *values):
    """The function of fractions where all values are finite, else of floats."""
    if all(map(math.isfinite, values)):
        return function(*map(Fraction, values))
    with np.errstate(all="ignore"):
        return float(function(*map(np.float64, values)))


def arithmetic(function, kind, mode="rn", ftz=False, sat=False):
    def formula(*values):
        if ftz:
            values = [flushed(v, kind) for v in values]
        value = exact(function, *values)
        if isinstance(value, Fraction):
            if value:
                value = signed_zero(rounded(value, kind, mode), -1 if value < 0 else 1)
            elif mode == "rm" and function is not PRODUCT and is_opposite(function, values):
                value = -0.0  # where x - x is rounded down
            else:
                value = 0.0 if any(values) and function is not PRODUCT else float(function(*values))
        if ftz:
            value = flushed(value, kind)
        if sat:
            value = saturated(value)
        return value

    return formula


def is_opposite(function, values):
    """Whether an exact zero is the sum of two of different signs."""
    x, y = (values[0] * values[1], values[2]) if function is FUSED else values[:2]
    if function is FUSED and values[0] and values[1] and not x:
        x = math.copysign(1, values[0]) * math.copysign(1, values[1])
    y = -y if function is DIFFERENCE else y
    return math.copysign(1, x) != math.copysign(1, y)


def flushed(value, kind):
    return math.copysign(0.0, value) if abs(value) < 2.0 ** FORMATS[kind][1] else value


def SUM(a, b):
    return a + b


def DIFFERENCE(a, b):
    return a - b


def PRODUCT(a, b):
    return a * b


def FUSED(a, b, c):
    return a * b + c


def quotient(a, b, kind, mode="rn"):
    if b == 0 or not math.isfinite(a) or not math.isfinite(b):
        with np.errstate(all="ignore"):
            return float(np.float64(a) / np.float64(b))
    return signed_zero(rounded(Fraction(a) / Fraction(b), kind, mode), math.copysign(1, a) * math.copysign(1, b))


def root(a, kind, mode="rn"):
    if a == 0 or a == math.inf:
        return a
    if not a > 0:
        return math.nan
    # The integer part of the root of a scaled square, and something smaller than all that matters if there is more.
    scale = 1 << 1200
    scaled = Fraction(a) * scale * scale
    whole = math.isqrt(scaled.numerator // scaled.denominator)
    return rounded(Fraction(2 * whole + (whole * whole != scaled), 2 * scale), kind, mode)


def smaller(a, b, sign=1, nan=False):
    if math.isnan(a) or math.isnan(b):
        return math.nan if nan else (a if math.isnan(b) else b)
    return min((sign * x, sign * math.copysign(1, x), x) for x in (a, b))[2]


def float_cases():
    operations = (("add", SUM), ("sub", DIFFERENCE), ("mul", PRODUCT))
    for t in ("f32", "f64"):
        for mode in ("", ".rn", ".rz", ".rm", ".rp"):
            how = mode[1:] or "rn"
            for name, function in operations:
                case(f"{name}{mode}.{t} %0, %1, %2;", f"{t}={t},{t}", arithmetic(function, t, how))
            if mode:
                case(f"fma{mode}.{t} %0, %1, %2, %3;", f"{t}={t},{t},{t}", arithmetic(FUSED, t, how))
                case(f"div{mode}.{t} %0, %1, %2;", f"{t}={t},{t}", lambda a, b, t=t, m=how: quotient(a, b, t, m))
                case(f"rcp{mode}.{t} %0, %1;", f"{t}={t}", lambda a, t=t, m=how: quotient(1.0, a, t, m))
                case(f"sqrt{mode}.{t} %0, %1;", f"{t}={t}", lambda a, t=t, m=how: root(a, t, m))
        case(f"abs.{t} %0, %1;", f"{t}={t}", abs)
        case(f"neg.{t} %0, %1;", f"{t}={t}", lambda a: -a)
        case(f"copysign.{t} %0, %1, %2;", f"{t}={t},{t}", lambda a, b: math.copysign(b, a))
        case(f"min.{t} %0, %1, %2;", f"{t}={t},{t}", smaller)
        case(f"max.{t} %0, %1, %2;", f"{t}={t},{t}", lambda a, b: smaller(a, b, -1))
    for name, function in operations:
        case(f"{name}.ftz.f32 %0, %1, %2;", "f32=f32,f32", arithmetic(function, "f32", ftz=True))
        case(f"{name}.rz.ftz.sat.f32 %0, %1, %2;", "f32=f32,f32", arithmetic(function, "f32", "rz", True, True))
    case("fma.rn.ftz.sat.f32 %0, %1, %2, %3;", "f32=f32,f32,f32", arithmetic(FUSED, "f32", "rn", True, True))
    case("mad.rn.f32 %0, %1, %2, %3;", "f32=f32,f32,f32", arithmetic(FUSED, "f32"))
    case("min.NaN.f32 %0, %1, %2;", "f32=f32,f32", lambda a, b: smaller(a, b, nan=True))
    case("max.ftz.f32 %0, %1, %2;", "f32=f32,f32", lambda a, b: smaller(flushed(a, "f32"), flushed(b, "f32"), -1))
    case("min.xorsign.abs.f32 %0, %1, %2;", "f32=f32,f32", xorsign)
    for name, function in (
        ("ex2", lambda a: math.inf if a >= 128 else 2.0**a),
        ("rcp", lambda a: quotient(1.0, a, "f32")),
        ("sqrt", lambda a: root(a, "f32")),
        ("rsqrt", lambda a: quotient(1.0, root(a, "f64"), "f64")),
        ("lg2", lambda a: math.log2(a) if a > 0 else -math.inf if a == 0 else math.nan),
        ("sin", lambda a: math.sin(a) if math.isfinite(a) else math.nan),
        ("cos", lambda a: math.cos(a) if math.isfinite(a) else math.nan),
        ("tanh", math.tanh),
    ):
        case(f"{name}.approx.f32 %0, %1;", "f32=f32", function, 1e-6)
    case("ex2.approx.ftz.f32 %0, %1;", "f32=f32", lambda a: math.inf if a >= 128 else flushed(2.0**a, "f32"), 1e-6)
    case("div.approx.f32 %0, %1, %2;", "f32=f32,f32", lambda a, b: quotient(a, b, "f32"), 1e-6)
    case("div.full.f32 %0, %1, %2;", "f32=f32,f32", lambda a, b: quotient(a, b, "f32"), 1e-6)
    for t in ("f16", "bf16"):
        for name, function in operations:
            case(f"{name}.{t} %0, %1, %2;", f"{t}={t},{t}", arithmetic(function, t))
        case(f"fma.rn.{t} %0, %1, %2, %3;", f"{t}={t},{t},{t}", arithmetic(FUSED, t))
        case(f"min.{t} %0, %1, %2;", f"{t}={t},{t}", smaller)
        case(f"max.NaN.{t} %0, %1, %2;", f"{t}={t},{t}", lambda a, b: smaller(a, b, -1, True))
        case(f"neg.{t} %0, %1;", f"{t}={t}", lambda a: -a)
        case(f"abs.{t} %0, %1;", f"{t}={t}", abs)
        case(f"tanh.approx.{t} %0, %1;", f"{t}={t}", math.tanh, 2.0**-7)
    case("add.ftz.sat.f16 %0, %1, %2;", "f16=f16,f16", arithmetic(SUM, "f16", ftz=True, sat=True))
    case("fma.rn.relu.f16 %0, %1, %2, %3;", "f16=f16,f16,f16", lambda a, b, c: relu(arithmetic(FUSED, "f16")(a, b, c)))


def relu(value):
    return value if math.isnan(value) else max(value, 0.0) + 0.0  # never -0


def saturated(value):
    return 0.0 if math.isnan(value) else min(relu(value), 1.0)


def xorsign(a, b):
    sign = math.copysign(1, a) * math.copysign(1, b)
    return math.copysign(smaller(abs(a), abs(b)), sign)


ORDERED = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}


def comparison_cases():
    both = "{ .reg .pred p, q, r; setp.gt.u32 r, 5, 3; setp.%s p|q, %%1, %%2%s; "
    both += "selp.u32 %%0, 1, 0, p; @q add.u32 %%0, %%0, 2; }"
    for t in ("u16", "s32", "u64", "f32", "f64"):
        for name, is_so in ORDERED.items():

            def ordered(a, b, is_so=is_so):
                return a == a and b == b and is_so(a, b)

            case(both % (f"{name}.{t}", ""), f"u32={t},{t}", lambda a, b, o=ordered: 1 if o(a, b) else 2)
            case(f"set.{name}.u32.{t} %0, %1, %2;", f"u32={t},{t}", lambda a, b, o=ordered: -int(o(a, b)))
            case(f"set.{name}.f32.{t} %0, %1, %2;", f"f32={t},{t}", lambda a, b, o=ordered: float(o(a, b)))
            if t[0] == "f":
                case(
                    both % (f"{name if name != 'ne' else 'ne'}u.{t}", ""),
                    f"u32={t},{t}",
                    lambda a, b, i=is_so: 1 if a != a or b != b or i(a, b) else 2,
                )
    for name, same in (("lo", "lt"), ("ls", "le"), ("hi", "gt"), ("hs", "ge")):
        case(both % (f"{name}.u32", ""), "u32=u32,u32", lambda a, b, o=ORDERED[same]: 1 if o(a, b) else 2)
    case(both % ("num.f32", ""), "u32=f32,f32", lambda a, b: 1 if a == a and b == b else 2)
    case(both % ("nan.f64", ""), "u32=f64,f64", lambda a, b: 2 if a == a and b == b else 1)
    less = ORDERED["lt"]
    case(both % ("lt.and.s32", ", r"), "u32=s32,s32", lambda a, b: 1 if less(a, b) else 2)
    case(both % ("lt.and.s32", ", !r"), "u32=s32,s32", lambda a, b: 0)
    case(both % ("lt.or.s32", ", r"), "u32=s32,s32", lambda a, b: 3)
    case(both % ("lt.xor.s32", ", r"), "u32=s32,s32", lambda a, b: 2 if less(a, b) else 1)
    case("set.lt.xor.s32.s32 %0, %1, %2, p;", "s32=s32,s32", lambda a, b: -int((a < b) != (a > b)))
    one = "{ .reg .pred p; setp.%s p, %%1, %%2; selp.u32 %%0, 1, 0, p; }"
    case(one % "lt.f16", "u32=f16,f16", lambda a, b: int(a < b))
    case(one % "geu.bf16", "u32=bf16,bf16", lambda a, b: int(not a < b))
    smallest = {"f32": 2.0**-126, "f64": 2.0**-1022}
    for t in ("f32", "f64"):
        for name, is_so in (
            ("finite", math.isfinite),
            ("infinite", math.isinf),
            ("number", lambda a: not math.isnan(a)),
            ("notanumber", math.isnan),
            ("normal", lambda a, t=t: math.isfinite(a) and abs(a) >= smallest[t]),
            ("subnormal", lambda a, t=t: abs(a) < smallest[t] and a != 0),
        ):
            test = f"{{ .reg .pred p; testp.{name}.{t} p, %1; selp.u32 %0, 1, 0, p; }}"
            case(test, f"u32={t}", lambda a, i=is_so: int(i(a)))


WHOLE = {"rni": round, "rzi": math.trunc, "rmi": math.floor, "rpi": math.ceil}


def to_integer(value, source, target, mode):
    bits = int(target[1:])
    if math.isnan(value):
        return 1 << (bits - 1) if source == "f64" or bits == 64 else 0
    if math.isinf(value):
        return clamp((1 << 70) if value > 0 else -(1 << 70), target)
    return clamp(WHOLE[mode](Fraction(value)), target)


def conversion_cases():
    kinds = ("u16", "s16", "u32", "s32", "u64", "s64")
    for a in kinds:
        for d in kinds:
            if a != d:
                case(f"cvt.{d}.{a} %0, %1;", f"{d}={a}", lambda x: x)
                if clamp(-(1 << 63), a) < clamp(-(1 << 63), d) or clamp(1 << 63, a) > clamp(1 << 63, d):
                    case(f"cvt.sat.{d}.{a} %0, %1;", f"{d}={a}", lambda x, d=d: clamp(x, d))
        for mode in ("rn", "rz", "rm", "rp"):
            for f in ("f32", "f64", "f16"):
                case(f"cvt.{mode}.{f}.{a} %0, %1;", f"{f}={a}", lambda x, f=f, m=mode: rounded(Fraction(x), f, m))
    case("cvt.rn.sat.f32.s32 %0, %1;", "f32=s32", lambda x: float(min(max(x, 0), 1)))
    case("cvt.u32.u8 %0, %1;", "u32=u32", lambda x: x & 255)
    case("cvt.s32.s8 %0, %1;", "s32=s32", lambda x: wrap(x, "s8"))
    case("cvt.sat.s8.s32 %0, %1;", "s32=s32", lambda x: clamp(x, "s8"))
    case("cvt.sat.u8.s32 %0, %1;", "u32=s32", lambda x: clamp(x, "u8"))
    case("cvt.u8.s32 %0, %1;", "u32=s32", lambda x: x & 255)
    for f in ("f16", "f32", "f64"):
        for mode in WHOLE:
            for d in kinds:
                case(f"cvt.{mode}.{d}.{f} %0, %1;", f"{d}={f}", lambda x, f=f, d=d, m=mode: to_integer(x, f, d, m))
            case(f"cvt.{mode}.{f}.{f} %0, %1;", f"{f}={f}", lambda x, m=mode: whole(x, m))
    case("cvt.rni.u8.f32 %0, %1;", "u32=f32", lambda x: to_integer(x, "f32", "u8", "rni"))
    case("cvt.rzi.s8.f32 %0, %1;", "s32=f32", lambda x: to_integer(x, "f32", "s8", "rzi"))
    case("cvt.sat.f32.f32 %0, %1;", "f32=f32", saturated)
    for d, a in (("f32", "f16"), ("f64", "f32"), ("f64", "f16"), ("f32", "bf16")):
        case(f"cvt.{d}.{a} %0, %1;", f"{d}={a}", lambda x: x)
    for mode in ("rn", "rz", "rm", "rp"):
        for d, a in (("f32", "f64"), ("f16", "f64"), ("f16", "f32")):
            case(f"cvt.{mode}.{d}.{a} %0, %1;", f"{d}={a}", lambda x, d=d, m=mode: narrowed(x, d, m))
    case("cvt.rn.bf16.f32 %0, %1;", "bf16=f32", lambda x: narrowed(x, "bf16", "rn"))
    case("cvt.rz.bf16.f32 %0, %1;", "bf16=f32", lambda x: narrowed(x, "bf16", "rz"))
    case("cvt.rn.relu.f16.f32 %0, %1;", "f16=f32", lambda x: relu(narrowed(x, "f16", "rn")))
    case("cvt.ftz.f32.f16 %0, %1;", "f32=f16", lambda x: x)
    case("cvt.rn.ftz.f32.f64 %0, %1;", "f32=f64", lambda x: flushed(narrowed(x, "f32", "rn"), "f32"))


def whole(value, mode):
    return value if not math.isfinite(value) else signed_zero(float(WHOLE[mode](Fraction(value))), value)


def narrowed(value, kind, mode):
    return signed_zero(rounded(Fraction(value), kind, mode), value) if math.isfinite(value) else value


integer_cases()
float_cases()
comparison_cases()
conversion_cases()


def groups(step):
    """The cases by their types, so that one kernel does many; every so many of them."""
    found = {}
    for each in CASES[::step]:
        found.setdefault((each[1], *each[2]), []).append(each)
    return found


def instructions(step=1):
    """One kernel for each combination of types: out[c][i] is instruction c of the operands i."""
    text = []
    for number, ((result, *operands), cases) in enumerate(groups(step).items()):
        parameters = "".join(f"const {TYPES[kind][1]}* x{i}, " for i, kind in enumerate(operands))
        text.append(f'extern "C" __global__ void group_{number}({parameters}{TYPES[result][1]}* out) {{')
        text.append(f"  const int i = threadIdx.x; {TYPES[result][1]} r;")
        inputs = ", ".join(f'"{TYPES[kind][0]}"(x{i}[i])' for i, kind in enumerate(operands))
        for c, (asm, *_) in enumerate(cases):
            if " p;" in asm and ".pred" not in asm:
                kind = operands[0]
                asm = f"{{ .reg .pred p; setp.gt.{kind} p, %1, %2; {asm} }}"
            text.append(f'  asm("{asm}" : "={TYPES[result][0]}"(r) : {inputs}); out[{c * SAMPLES} + i] = r;')
        text.append("}")
    return "\n".join(text)


@pytest.mark.filterwarnings("ignore:.*the number that variables hold:gpunn.cuda.emulator.CheckWarning")
@pytest.mark.parametrize(("check", "step"), [(False, 1), (True, 4)])
def test_every_instruction_gives_what_its_formula_says(check, step):
    computed = RawModule(instructions(step), filename="instructions.cu", check=check)
    wrong = []
    for number, ((result, *operands), cases) in enumerate(groups(step).items()):
        rng = random.Random(number)
        samples = [[sample(kind, rng) for _ in range(SAMPLES)] for kind in operands]
        out = np.zeros(len(cases) * SAMPLES, TYPES[result][2])
        arrays = [to_array(values, kind) for values, kind in zip(samples, operands, strict=True)]
        computed.get_function(f"group_{number}")((1,), (SAMPLES,), (*arrays, out))
        got = to_values(out, result)
        for c, (asm, _, _, formula, tolerance) in enumerate(cases):
            for i, values in enumerate(zip(*samples, strict=True)):
                expected, value = formula(*values), got[c * SAMPLES + i]
                if result not in FORMATS:
                    right = value == wrap(expected, result)
                elif math.isnan(expected):
                    right = math.isnan(value)
                elif tolerance:
                    right = math.isclose(value, expected, rel_tol=tolerance, abs_tol=1e-37)
                else:
                    right = value == expected and math.copysign(1, value) == math.copysign(1, expected)
                if not right:
                    wrong.append(f"{asm} of {values}: {value}, not {expected}")
                    break
    assert not wrong, "\n".join(wrong)


# --- statements, registers, memory, warps and blocks ------------------------------------------------------------------

KERNELS = (
    r"""
#define EACH int t = threadIdx.x

// Several instructions, blocks with registers of their own, comments, predicates, a raw string.
extern "C" __global__ void statements(unsigned* y) {
    EACH;
    unsigned r = t;
    asm volatile("{\n\t"
                 ".reg .pred p, q<2>;  // not: wgmma.fence;\n\t"
                 ".reg .u32 %%a, b;\n\t"
                 "setp.lt.u32 p, %0, 16;\n\t"
                 "@p  add.u32 %%a, %0, 0x64;\n\t"
                 "@!p { .reg .u32 b; mov.u32 b, 1; sub.u32 %%a, %0, b; }\n\t".
                 );
    y[t] = r;
}
""".replace(
        """                 "@!p { .reg .u32 b; mov.u32 b, 1; sub.u32 %%a, %0, b; }\\n\\t".
                 );
""",
        """                 "@!p sub.u32 %%a, %0, 1;\\n\\t"
                 "{ .reg .u32 b; mov.u32 b, 1000; add.u32 %%a, %%a, b; }\\n\\t"
                 "/* tcgen05 */ mov.u32 b, %%a;\\n\\t"
                 "setp.eq.u32 q1, %0, 3; @q1 mov.u32 b, %2;\\n\\t"
                 "add .u32 %0, b, %1;\\n\\t"
                 "}" : "+r"(r) : "r"(2 * t), "n"(7) : "memory");
    if (t == 5) asm(R"(
        add.u32 %0, %0, 100000;
        shl.b32 %0, %0, 1;
    )" : "+r"(r)); else asm("xor.b32 %0, %0, 0;" : "+r"(r));
""",
    )
    + r"""
// The sum of two numbers of 96 bits, the difference, and a product of 64 by 64 bits; the carry goes from one statement
// to the next.
extern "C" __global__ void carries(const unsigned* x, unsigned* y) {
    EACH;
    const unsigned *a = x + 6 * t, *b = a + 3;
    unsigned r[10];
    asm volatile("add.cc.u32 %0, %1, %2;" : "=r"(r[0]) : "r"(a[0]), "r"(b[0]));
    asm volatile("addc.cc.u32 %0, %1, %2;" : "=r"(r[1]) : "r"(a[1]), "r"(b[1]));
    __syncthreads();
    asm volatile("addc.u32 %0, %1, %2;" : "=r"(r[2]) : "r"(a[2]), "r"(b[2]));
    asm("sub.cc.u32 %0, %3, %6; subc.cc.u32 %1, %4, %7; subc.u32 %2, %5, %8;"
        : "=r"(r[3]), "=r"(r[4]), "=r"(r[5]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(b[0]), "r"(b[1]), "r"(b[2]));
    asm("mul.lo.u32 %0, %4, %6;\n\tmul.hi.u32 %1, %4, %6;\n\t"
        "mad.lo.cc.u32 %1, %4, %7, %1;\n\tmadc.hi.u32 %2, %4, %7, 0;\n\t"
        "mad.lo.cc.u32 %1, %5, %6, %1;\n\tmadc.hi.cc.u32 %2, %5, %6, %2;\n\taddc.u32 %3, 0, 0;\n\t"
        "mad.lo.cc.u32 %2, %5, %7, %2;\n\tmadc.hi.u32 %3, %5, %7, %3;"
        : "=&r"(r[6]), "=&r"(r[7]), "=&r"(r[8]), "=&r"(r[9]) : "r"(a[0]), "r"(a[1]), "r"(b[0]), "r"(b[1]));
    for (int i = 0; i < 10; i++) y[10 * t + i] = r[i];
}

extern "C" __global__ void registers(unsigned* y, unsigned long long* z) {
    int t = threadIdx.x + blockDim.x * threadIdx.y, i = (blockIdx.x * 64 + t) * 16;
    extern __shared__ int dynamic[];
    __shared__ int fixed[5];
    if (t == 0) fixed[0] = dynamic[0] = 1;
#define READ(name) asm volatile("mov.u32 %0, %%" name ";" : "=r"(y[i++]))
    READ("tid.x"); READ("tid.y"); READ("ntid.x"); READ("ntid.y"); READ("ctaid.x"); READ("nctaid.x"); READ("laneid");
    READ("warpid"); READ("nwarpid"); READ("lanemask_eq"); READ("lanemask_lt"); READ("lanemask_le"); READ("lanemask_gt");
    READ("lanemask_ge"); READ("dynamic_smem_size"); READ("total_smem_size");
    unsigned long long before, after, timer;
    asm volatile("mov.u64 %0, %%clock64; mov.u64 %1, %clock64; mov.u64 %2, %globaltimer;"
                 : "=l"(before), "=l"(after), "=l"(timer));
    z[blockIdx.x * 64 + t] = (after >= before) + 2 * (timer > 0);
}

extern "C" __global__ void packing(unsigned long long* y) {
    unsigned low, high;
    unsigned short a, b, c, d;
    float f = 1.5f;
    asm("mov.b64 %0, {%1, %2};" : "=l"(y[0]) : "r"(0x11223344), "r"(0x55667788));
    asm("mov.b64 {%0, %1}, %2;" : "=r"(low), "=r"(high) : "l"(y[0]));
    y[1] = low; y[2] = high;
    asm("mov.b64 {%0, %1, %2, %3}, %4;" : "=h"(a), "=h"(b), "=h"(c), "=h"(d) : "l"(y[0]));
    y[3] = a; y[4] = b; y[5] = c; y[6] = d;
    asm("mov.b32 %0, {%1, %2}; mov.b32 {_, %3}, %0;" : "=r"(low), "+h"(b), "+h"(a), "=h"(c));
    y[7] = low; y[8] = c;
    asm("mov.b32 %0, %1;" : "=r"(low) : "f"(f));
    y[9] = low;
    asm("{ .reg .f32 t; mov.f32 t, 0f3FC00000; add.f32 t, t, 1.0; add.f32 %0, t, 0fBF000000; }" : "=f"(f));
    asm("mov.b32 %0, %1;" : "=r"(low) : "f"(f));
    y[10] = low;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(low) : "f"(1.0f), "f"(-2.0f));
    y[11] = low;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(low) : "f"(1.0f), "f"(-2.0f));
    y[12] = low;
    asm("add.f16x2 %0, %1, %2; neg.f16x2 %0, %0;" : "=r"(low) : "r"(0x3c004000u), "r"(0x40003c00u));
    y[13] = low;
    asm("{ .reg .pred p, q; setp.lt.f16x2 p|q, %1, %2; selp.u32 %0, 1, 0, p; @q add.u32 %0, %0, 2; }"
        : "=r"(low) : "r"(0x3c004000u), "r"(0x40003c00u));
    y[14] = low;
    asm("fma.rn.bf16x2 %0, %1, %1, %1; max.bf16x2 %0, %0, %1;" : "=r"(low) : "r"(0x3f804000u));
    y[15] = low;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(low) : "f"(1.00048828125f));
    y[16] = low;
}

struct alignas(16) Four { float x, y, z, w; };

extern "C" __global__ void memory(const float* x, float* y, const signed char* bytes, int* words) {
    EACH;
    __shared__ Four s[32];
    __shared__ int fixed[32];
    unsigned at = (unsigned)__cvta_generic_to_shared(&s[t]);
    float a, b, c, d;
    asm("ld.global.nc.L1::no_allocate.L2::128B.v4.f32 {%0, %1, %2, %3}, [%4];"
        : "=f"(a), "=f"(b), "=f"(c), "=f"(d) : "l"(x + 4 * t));
    asm volatile("st.shared.v2.f32 [%0], {%1, %2};\n\tst.shared::cta.v2.f32 [%0+8], {%3, %4};"
                 :: "r"(at), "f"(a), "f"(b), "f"(c), "f"(d) : "memory");
    asm volatile("{ .reg .u64 g; .reg .u32 o; cvta.to.shared.u64 g, %1; cvt.u32.u64 o, g; st.shared.s32 [o], %0; }"
                 :: "r"(t * t), "l"(&fixed[t]) : "memory");
    asm volatile("bar.sync 0;" ::: "memory");
    unsigned other = (unsigned)__cvta_generic_to_shared(&s[t ^ 1]);
    asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(a), "=f"(b), "=f"(c), "=f"(d) : "r"(other) : "memory");
    asm volatile("st.global.cs.v2.f32 [%0], {%1, %2}; st.cg.v2.f32 [%0 + %5], {%3, %4};"
                 :: "l"(y + 4 * t), "f"(a), "f"(b), "f"(c), "f"(d), "n"(8) : "memory");
    int wide, unsigned_byte, squared;
    asm("ld.global.s8 %0, [%2+-1]; ld.global.u8 %1, [%2 + -1];" : "=r"(wide), "=r"(unsigned_byte) : "l"(bytes + t + 1));
    unsigned long long generic;
    asm("cvta.shared.u64 %0, %1;" : "=l"(generic) : "l"((unsigned long long)(unsigned)__cvta_generic_to_shared(fixed)));
    asm volatile("ld.s32 %0, [%1];" : "=r"(squared) : "l"((int*)generic + (t ^ 1)));
    unsigned is;
    asm("{ .reg .pred p, q, l; isspacep.shared p, %1; isspacep.global q, %2; isspacep.local l, %3;"
        "selp.u32 %0, 1, 0, p; @q add.u32 %0, %0, 2; @l add.u32 %0, %0, 4;"
        "isspacep.shared p, %2; @p add.u32 %0, %0, 8; }"
        : "=r"(is) : "l"(s), "l"(x), "l"(&wide));
    asm volatile("prefetch.global.L2 [%0]; st.global.b8 [%1], %2;"
                 :: "l"(x), "l"((char*)(words + 4 * t + 3) + 1), "r"(0x1234));
    words[4 * t] = wide;
    words[4 * t + 1] = unsigned_byte;
    words[4 * t + 2] = squared;
    asm volatile("st.global.b8 [%0], %1;" :: "l"(words + 4 * t + 3), "r"(is));
}

extern "C" __global__ void atomics(unsigned* y, float* f, unsigned long long* w, unsigned* old) {
    EACH;
    __shared__ unsigned count;
    unsigned at = (unsigned)__cvta_generic_to_shared(&count);
    if (t == 0) count = 0;
    __syncthreads();
    unsigned ticket;
    asm volatile("atom.shared.add.u32 %0, [%1], 1;" : "=r"(ticket) : "r"(at) : "memory");
    old[ticket] = 1;
    asm volatile("red.global.add.u32 [%0], %1; red.relaxed.gpu.global.max.s32 [%0+4], %2; red.min.s32 [%0+8], %2;"
                 "red.or.b32 [%0+12], %3; red.xor.b32 [%0+16], %3; red.and.b32 [%0+20], %4; red.inc.u32 [%0+24], 9;"
                 "red.dec.u32 [%0+28], 9;"
                 :: "l"(y), "r"(t), "r"(t - 16), "r"(1 << t), "r"(~(1 << t)) : "memory");
    asm volatile("red.global.add.f32 [%0], %1; red.release.gpu.global.add.u64 [%2], %3;"
                 :: "l"(f), "f"(0.5f * t), "l"(w), "l"(1ull << 40) : "memory");
    asm volatile("red.global.add.noftz.f16x2 [%0], %1;" :: "l"(f + 1), "r"(0x3c004000) : "memory");
    unsigned seen;
    asm volatile("atom.acq_rel.gpu.global.cas.b32 %0, [%1], 5, %2;" : "=r"(seen) : "l"(y + 8), "r"(t + 100) : "memory");
    unsigned long long previous;
    asm volatile("atom.exch.b64 %0, [%1], %2;" : "=l"(previous) : "l"(w + 1), "l"((unsigned long long)t) : "memory");
    if (seen == 5) y[9] = t;
}

extern "C" __global__ void warps(const unsigned* x, unsigned* y) {
    EACH;
    unsigned v = x[t], r, p, i = t * 24;
#define SHUFFLE(mode, b, c)                                                                              \
    asm volatile("{ .reg .pred p; shfl.sync." mode ".b32 %0|p, %2, " b ", " c ", 0xffffffff;"              \
                 "selp.u32 %1, 1, 0, p; }" : "=r"(r), "=r"(p) : "r"(v)); y[i++] = r; y[i++] = p
    SHUFFLE("up", "3", "0"); SHUFFLE("down", "5", "31"); SHUFFLE("bfly", "9", "31"); SHUFFLE("idx", "40", "31");
    SHUFFLE("up", "3", "0x1800"); SHUFFLE("down", "5", "0x181f"); SHUFFLE("bfly", "9", "0x181f");
    SHUFFLE("idx", "13", "0x181f");
    asm volatile("{ .reg .pred p, q; setp.lt.u32 p, %2, 100; vote.sync.ballot.b32 %0, p, -1;"
                 "vote.sync.any.pred q, !p, -1; selp.u32 %1, 1, 0, q; vote.sync.all.pred q, p, -1;"
                 "@q add.u32 %1, %1, 2;"
                 "vote.sync.uni.pred q, p, -1; @q add.u32 %1, %1, 4; }" : "=r"(r), "=r"(p) : "r"(v));
    y[i++] = r; y[i++] = p;
    asm volatile("match.any.sync.b32 %0, %1, 0xffffffff;" : "=r"(r) : "r"(v % 4)); y[i++] = r;
    asm volatile("{ .reg .pred p; match.all.sync.b32 %0|p, 7, 0xffffffff; @p add.u32 %0, %0, 2; }" : "=r"(r));
    y[i++] = r;
    asm volatile("redux.sync.add.s32 %0, %1, -1; redux.sync.max.u32 %2, %1, -1;" : "=r"(r), "+r"(v), "=r"(p));
    y[i++] = r; y[i++] = p;
    asm volatile("{ .reg .pred p; elect.sync %0|p, 0xffffffff; @p add.u32 %0, %0, 50; }" : "=r"(r)); y[i++] = r;
    asm volatile("activemask.b32 %0; bar.warp.sync 0xffffffff;" : "=r"(r)); y[i++] = r;
}

extern "C" __global__ void barriers(unsigned* y) {
    EACH;
    __shared__ unsigned s[64];
    s[t] = t;
    asm volatile("barrier.sync.aligned 1;" ::: "memory");
    unsigned next = s[(t + 1) % 64], count, flags;
    asm volatile("bar.sync 2, %0;" :: "r"(64) : "memory");
    s[t] = next;
    asm volatile("bar.sync 0; membar.gl; fence.acq_rel.gpu; nanosleep.u32 10;" ::: "memory");
    asm volatile("{ .reg .pred p, q; setp.lt.u32 p, %2, 10; bar.red.popc.u32 %0, 0, p; bar.red.or.pred q, 0, p;"
                 "selp.u32 %1, 1, 0, q; bar.red.and.pred q, 1, 64, !p; @q add.u32 %1, %1, 2; }"
                 : "=r"(count), "=r"(flags) : "r"(t));
    y[t] = s[63 - t] + 100 * count + 10000 * flags;
    if (t >= 32) asm volatile("exit;");
    y[t] += 1000000;
    asm volatile("bar.sync 0;");
    y[t] += 1000000;
}

// A thread waits for another of its block, without a barrier.
extern "C" __global__ void flags(unsigned* y, unsigned* flag) {
    EACH;
    if (t == blockDim.x - 1 - y[0]) {
        y[1] = 42;
        asm volatile("st.release.gpu.global.u32 [%0], 1;" :: "l"(flag) : "memory");
    } else {
        unsigned set = 0;
        while (!set) asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(set) : "l"(flag) : "memory");
        y[2 + t] = y[1];
    }
}
"""
)


@pytest.fixture(
    scope="module",
    params=[{}, {"order": "reverse"}, {"check": True}, {"check": True, "order": 7}],
    ids=lambda settings: "-".join(map(str, settings.values())) or "forward",
)
def kernels(request):
    return RawModule(KERNELS, filename="kernels.cu", **request.param)


def launch(kernels, name, threads, *args, grid=(1,), **settings):
    kernels.get_function(name)(grid, threads, args, **settings)
    return args


def test_statements_of_several_instructions(kernels):
    (y,) = launch(kernels, "statements", (32,), np.zeros(32, u32))
    t = np.arange(32)
    expected = np.where(t < 16, t + 100, t - 1) + 1000
    expected[3] = 7
    expected += 2 * t
    expected[5] = (expected[5] + 100000) * 2
    np.testing.assert_array_equal(y, expected)


def test_the_carry_flag(kernels, rng):
    x = rng.integers(0, 2**32, (40, 6), dtype=u32)
    x[::2] |= u32(0xFFFFFF00)
    x[1::4] &= u32(3)
    _, y = launch(kernels, "carries", (40,), x, np.zeros((40, 10), u32))

    def number(words):
        return sum(int(word) << 32 * i for i, word in enumerate(words))

    for row, got in zip(x, y, strict=True):
        a, b = number(row[:3]), number(row[3:])
        assert number(got[:3]) == (a + b) % 2**96
        assert number(got[3:6]) == (a - b) % 2**96
        assert number(got[6:]) == number(row[:2]) * number(row[3:5])


def test_special_registers(kernels):
    y, z = np.zeros((3, 64, 16), u32), np.zeros(192, np.uint64)
    kernels.get_function("registers")((3,), (8, 8), (y, z), shared_mem=12)
    assert set(z.tolist()) == {3}
    for block in range(3):
        for t in range(64):
            lane = t % 32
            below = (1 << lane) - 1
            masks = [1 << lane, below, below | 1 << lane, ~(below | 1 << lane) & 0xFFFFFFFF, ~below & 0xFFFFFFFF]
            row = y[block, t].tolist()
            assert row[:14] == [t % 8, t // 8, 8, 8, block, 3, lane, t // 32, 2, *masks]
            assert row[14] == 12
            assert row[15] >= 12 + 20


def test_registers_are_packed_and_unpacked(kernels):
    (y,) = launch(kernels, "packing", (1,), np.zeros(17, np.uint64))
    halves = [0x3344, 0x1122, 0x7788, 0x5566]
    words = [0x5566778811223344, 0x11223344, 0x55667788, *halves, 0x33441122, 0x3344, 0x3FC00000, 0x40000000]
    words += [0x3C00C000, 0x3F80C000, 0xC200C200, 2, 0x400040C0, 0x3F802000]
    assert [hex(v) for v in y.tolist()] == [hex(v) for v in words]


def test_memory(kernels, rng):
    x = rng.standard_normal(128).astype(f32)
    data = rng.integers(-128, 128, 32).astype(np.int8)
    _, y, _, words = launch(kernels, "memory", (32,), x, np.zeros(128, f32), data, np.zeros(128, i32))
    np.testing.assert_array_equal(y.reshape(32, 4), x.reshape(32, 4)[np.arange(32) ^ 1])
    np.testing.assert_array_equal(words[::4], data)
    np.testing.assert_array_equal(words[1::4], data.view(np.uint8))
    np.testing.assert_array_equal(words[2::4], (np.arange(32) ^ 1) ** 2)
    np.testing.assert_array_equal(words[3::4], 0x3407)


def test_atomics(kernels):
    y = np.array([0, 1 << 31, 99, 0, 0, 0xFFFFFFFF, 3, 3, 5, 0], u32)
    f, w, old = np.zeros(2, f32), np.zeros(2, np.uint64), np.zeros(32, u32)
    launch(kernels, "atomics", (32,), y, f, w, old)
    # inc goes through 0 to 9, dec from 3 to 0 and then again from 9.
    assert y[:8].tolist() == [496, 15, 2**32 - 16, 2**32 - 1, 2**32 - 1, 0, 5, 1]
    assert y[8] == y[9] + 100
    assert f[0] == 0.5 * 496
    assert f[1:].view(np.float16).tolist() == [64, 32]
    assert w[0] == 32 << 40
    assert old.all()


def test_warps(kernels):
    x = np.random.default_rng(1).integers(0, 200, 32).astype(u32)
    _, y = launch(kernels, "warps", (32,), x, np.zeros((32, 24), u32))
    lane = np.arange(32)
    ballot = sum(1 << int(i) for i in lane[x < 100])
    for t in range(32):
        group = t & ~7
        sources = [(t - 3, t >= 3), (t + 5, t + 5 < 32), (t ^ 9, True), (8, True)]
        sources += [(t - 3, t - 3 >= group), (t + 5, t + 5 < group + 8), (t ^ 9, t ^ 9 <= group + 7), (group + 5, True)]
        expected = []
        for source, inside in sources:
            expected += [x[source] if inside else x[t], inside]
        expected += [ballot, 1, sum(1 << int(i) for i in lane[x % 4 == x[t] % 4]), 0xFFFFFFFF + 2 & 0xFFFFFFFF]
        expected += [x.sum(), x.max(), 50 * (t == 0), 0xFFFFFFFF]
        assert y[t].tolist() == [int(v) for v in expected], t


@pytest.mark.filterwarnings("ignore:.*32 threads of the block have returned:gpunn.cuda.emulator.CheckWarning")
def test_barriers_and_exit(kernels):
    (y,) = launch(kernels, "barriers", (64,), np.zeros(64, u32))
    t = np.arange(64)
    np.testing.assert_array_equal(y, (64 - t) % 64 + 1000 + 10000 + 2000000 * (t < 32))


def test_a_thread_that_waits_for_a_flag_lets_others_run(kernels):
    for last in (0, 39):
        y = np.zeros(42, u32)
        y[0] = last
        launch(kernels, "flags", (40,), y, np.zeros(1, u32))
        assert (y[2:] == 42).sum() == 39


KERNEL = 'extern "C" __global__ void k(float* x, unsigned* u) {\n  %s\n}'


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (
            'asm("add.s32 %0, %0, 1;"\n\n"tcgen05.wait::ld;" : "+r"(u[0]));',
            "k.cu:4: inline PTX 'tcgen05.wait::ld' is not",
        ),
        ('asm("mov.u32 %0, %%envreg0;" : "=r"(u[0]));', "k.cu:2: inline PTX '%envreg0' is not emulated"),
        ('asm("add.sat.u32 %0, %0, 1;" : "+r"(u[0]));', "k.cu:2: inline PTX 'add.sat.u32' is not emulated"),
        ('asm("L: add.u32 %0, %0, 1; bra L;" : "+r"(u[0]));', "k.cu:2: inline PTX the label 'L:' is not emulated"),
        ('asm("add.s32 %0, %0;" : "+r"(u[0]));', "k.cu:2: inline PTX: 'add.s32' has too few operands"),
        ('asm("add.s32 %0 %0, 1;" : "+r"(u[0]));', "k.cu:2: inline PTX: a comma or ; is missing before '%0,'"),
        ('asm("add.s64 %0, %0, 1;" : "+r"(u[0]));', "'add.s64' has a register of 32 bits where .s64 is needed"),
        ('asm("add.s32 %0, %0, q;" : "+r"(u[0]));', "inline PTX: 'q' is not declared in this asm statement"),
        ('asm("add.s32 %0, %2, 1;" : "+r"(u[0]) : "r"(1));', "inline PTX: %2 is not one of the 2 operands"),
        ('asm("{ add.s32 %0, %0, 1;" : "+r"(u[0]));', "inline PTX: { without }"),
        ('asm("add.s32 %0, %0, 1;" : "+x"(u[0]));', 'the constraint "+x" is not emulated, only h, r, l, f, d'),
        ('asm("ld.global.u32 %0, [%1];" : "=r"(u[0]) : "r"(1));', "has a register of 32 bits for an address of 64"),
        (
            'asm("add.s32 %0, %0, 1;" : "+r"(x[0]));',
            "k.cu:2: no matching function for call to 'operand_of_constraint_r",
        ),
    ],
)
def test_what_is_refused_is_named(statement, message):
    with pytest.raises(CompileError) as caught:
        RawKernel(KERNEL % statement, "k", filename="k.cu")
    assert message in str(caught.value).split("\n")[0]


def test_an_instruction_that_never_runs_is_not_refused():
    RawKernel(KERNEL % 'if (0) asm volatile("wgmma.fence.sync.aligned;");', "k")((1,), (1,), (None, None))


RACES = r"""
extern "C" __global__ void plain(unsigned* u) {
    asm volatile("st.global.u32 [%0], %1;" :: "l"(u), "r"(threadIdx.x));
}
extern "C" __global__ void strong(unsigned* u) {
    unsigned v;
    asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];\n st.volatile.global.u32 [%1], %0;" : "=r"(v) : "l"(u));
}
extern "C" __global__ void mixed(unsigned* u) {
    if (threadIdx.x) asm volatile("st.relaxed.gpu.global.u32 [%0], 7;" :: "l"(u));
    else u[1] = u[0];
}
extern "C" __global__ void bounds(unsigned* u) {
    unsigned v;
    asm volatile("add.u32 %0, 1, 1;\n"
                 "ld.global.u32 %0, [%1+64];" : "=r"(v) : "l"(u));
    u[0] = v;
}
extern "C" __global__ void unwritten(unsigned* u) {
    __shared__ unsigned s[4];
    asm volatile("ld.shared.u32 %0, [%1];" : "=r"(u[0]) : "r"((unsigned)__cvta_generic_to_shared(s)));
}
extern "C" __global__ void generic_as_shared(unsigned* u) {
    __shared__ unsigned s[4];
    asm volatile("ld.shared.u32 %0, [%1];" : "=r"(u[0]) : "l"(s));
}
extern "C" __global__ void a_part(unsigned* u) { asm volatile("bar.sync 1, 32;"); }
"""


@pytest.fixture(scope="module")
def races():
    return RawModule(RACES, filename="races.cu", check=True)


@pytest.mark.parametrize(
    ("name", "kind", "line"),
    [
        ("plain", "race", 3),
        ("mixed", "race", None),
        ("bounds", "out-of-bounds", 16),
        ("unwritten", "uninitialised", 21),
        ("generic_as_shared", "out-of-bounds", 25),
        ("a_part", "divergent-barrier", 27),
    ],
)
def test_mistakes_are_reported_with_their_line(races, name, kind, line):
    with pytest.raises(CheckError) as caught:
        races.get_function(name)((1,), (64,), (np.zeros(4, u32),))
    found = [(report.kind, report.file) for report in caught.value.reports]
    assert (kind, "races.cu") in found
    assert line is None or line in [report.line for report in caught.value.reports]


def test_strong_accesses_do_not_race_with_each_other(races):
    races.get_function("strong")((2,), (64,), (np.zeros(4, u32),))


@pytest.mark.slow
def test_nvrtc_takes_the_same_statements(tmp_path, monkeypatch):
    pytest.importorskip("cuda.core", reason="NVIDIA has no NVRTC for this system")
    monkeypatch.setenv("GPUNN_CACHE_DIR", str(tmp_path))
    for code in (instructions(), KERNELS):
        assert compiler.compile_cubin(code, "ptx.cu", (), "sm_90").resources
