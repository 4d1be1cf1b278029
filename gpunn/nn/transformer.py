"""The layers of a transformer: attention and two dense layers, each added to what goes around it, and normalised.

    y = norm(x + f(x)), or with ``norm_first`` y = x + f(norm(x)),      for f the attention, then two dense layers

Source: Vaswani et al. 2017, "Attention is all you need"; the norms first: Xiong et al. 2020, "On layer normalization in
the transformer architecture".
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np

from gpunn import functional as F
from gpunn.backend import Array
from gpunn.errors import ArgumentError, check, check_sizes
from gpunn.nn.attention import MultiheadAttention
from gpunn.nn.container import ModuleList
from gpunn.nn.dropout import Dropout
from gpunn.nn.init import xavier_uniform_
from gpunn.nn.linear import Linear
from gpunn.nn.module import Module
from gpunn.nn.norm import LayerNorm
from gpunn.tensor import Tensor

Activation = str | Callable[[Any], Any]


class _Layer(Module):
    """What a layer of the encoder and one of the decoder do: attend, and map each position by two dense layers."""

    linear1: Linear
    dropout: Dropout
    linear2: Linear
    activation: Callable[[Any], Any]
    norm_first: bool

    def _set_activation(self, activation: Activation) -> None:
        known = activation in ("relu", "gelu") if isinstance(activation, str) else callable(activation)
        rule = 'activation must be "relu", "gelu" or a function'
        check(known, ArgumentError, type(self).__name__, rule, activation=activation)
        self.activation = getattr(F, activation) if isinstance(activation, str) else activation

    def _dense(self, x: Any) -> Any:
        return self.linear2(self.dropout(self.activation(self.linear1(x))))

    def _beside(self, x: Any, norm: Module, work: Callable[[Any], Any], dropout: Module) -> Any:
        """x with ``work`` beside it, normalised before or after."""
        return x + dropout(work(norm(x))) if self.norm_first else norm(x + dropout(work(x)))


class TransformerEncoderLayer(_Layer):
    """Each position looks at all others, then two dense layers map it: (S, N, d_model) to the same shape.

    With ``batch_first`` (N, S, d_model), without a batch (S, d_model). Modules: ``self_attn``, ``linear1``, ``linear2``
    (d_model to dim_feedforward and back), ``norm1``, ``norm2``, and three of dropout. ``activation`` is ``"relu"``,
    ``"gelu"`` or a function.

    >>> TransformerEncoderLayer(8, 2, 16)(np.zeros((5, 3, 8), np.float32)).shape
    (5, 3, 8)
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        *,
        generator: np.random.Generator | None = None,
        dtype: Any = np.float32,
    ) -> None:
        drawn: dict[str, Any] = {"generator": generator, "dtype": dtype}
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, **drawn)
        self.linear1 = Linear(d_model, dim_feedforward, bias, **drawn)
        self.dropout = Dropout(dropout, generator=generator)
        self.linear2 = Linear(dim_feedforward, d_model, bias, **drawn)
        self.norm_first = norm_first
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.dropout1, self.dropout2 = Dropout(dropout, generator=generator), Dropout(dropout, generator=generator)
        self._set_activation(activation)

    def forward(
        self, src: Any, src_mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool = False
    ) -> Tensor:
        """The result; the masks are ``attn_mask`` and ``key_padding_mask`` of :class:`MultiheadAttention`."""

        def attend(x: Any) -> Any:
            return self.self_attn(x, x, x, src_key_padding_mask, False, src_mask, is_causal=is_causal)[0]

        x = self._beside(src, self.norm1, attend, self.dropout1)
        return self._beside(x, self.norm2, self._dense, self.dropout2)


class TransformerDecoderLayer(_Layer):
    """Each position looks at the target, then at the encoder's output, then two dense layers map it.

    The target is (T, N, d_model), the encoder's output ``memory`` (S, N, d_model), with ``batch_first`` (N, T, d_model)
    and so on. Modules: those of :class:`TransformerEncoderLayer`, ``multihead_attn``, ``norm3`` and ``dropout3``.

    >>> memory = np.zeros((5, 3, 8), np.float32)
    >>> TransformerDecoderLayer(8, 2, 16)(memory[:2], memory).shape
    (2, 3, 8)
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        *,
        generator: np.random.Generator | None = None,
        dtype: Any = np.float32,
    ) -> None:
        drawn: dict[str, Any] = {"generator": generator, "dtype": dtype}
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, **drawn)
        self.multihead_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, **drawn)
        self.linear1 = Linear(d_model, dim_feedforward, bias, **drawn)
        self.dropout = Dropout(dropout, generator=generator)
        self.linear2 = Linear(dim_feedforward, d_model, bias, **drawn)
        self.norm_first = norm_first
        norms = (LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype) for _ in range(3))
        self.norm1, self.norm2, self.norm3 = norms
        self.dropout1, self.dropout2, self.dropout3 = (Dropout(dropout, generator=generator) for _ in range(3))
        self._set_activation(activation)

    def forward(
        self,
        tgt: Any,
        memory: Any,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """The result; the masks are ``attn_mask`` and ``key_padding_mask`` of :class:`MultiheadAttention`."""

        def attend(x: Any) -> Any:
            return self.self_attn(x, x, x, tgt_key_padding_mask, False, tgt_mask, is_causal=tgt_is_causal)[0]

        def look(x: Any) -> Any:
            masks = memory_key_padding_mask, False, memory_mask
            return self.multihead_attn(x, memory, memory, *masks, is_causal=memory_is_causal)[0]

        x = self._beside(tgt, self.norm1, attend, self.dropout1)
        x = self._beside(x, self.norm2, look, self.dropout2)
        return self._beside(x, self.norm3, self._dense, self.dropout3)


class _Stack(Module):
    def __init__(self, layer: Module, num_layers: int, norm: Module | None) -> None:
        check_sizes(type(self).__name__, num_layers=num_layers)
        self.layers = ModuleList(deepcopy(layer) for _ in range(num_layers))
        self.num_layers, self.norm = num_layers, norm

    def _normalized(self, x: Any) -> Any:
        return x if self.norm is None else self.norm(x)


class TransformerEncoder(_Stack):
    """``num_layers`` copies of a layer, one after the other, and ``norm`` behind them if it is given.

    The copies begin with the same weights. ``enable_nested_tensor`` and ``mask_check`` are PyTorch's, which speed it
    up; here they do nothing.

    >>> TransformerEncoder(TransformerEncoderLayer(8, 2, 16), 3)(np.zeros((5, 3, 8), np.float32)).shape
    (5, 3, 8)
    """

    def __init__(
        self,
        encoder_layer: Module,
        num_layers: int,
        norm: Module | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        super().__init__(encoder_layer, num_layers, norm)

    def forward(
        self, src: Any, mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool | None = None
    ) -> Tensor:
        """The result; the masks go to each layer."""
        for layer in self.layers:
            src = layer(src, mask, src_key_padding_mask, bool(is_causal))
        return self._normalized(src)


class TransformerDecoder(_Stack):
    """``num_layers`` copies of a layer, one after the other, and ``norm`` behind them if it is given.

    >>> memory = np.zeros((5, 3, 8), np.float32)
    >>> TransformerDecoder(TransformerDecoderLayer(8, 2, 16), 3)(memory[:2], memory).shape
    (2, 3, 8)
    """

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__(decoder_layer, num_layers, norm)

    def forward(
        self,
        tgt: Any,
        memory: Any,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """The result; the masks go to each layer."""
        masks = tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask
        for layer in self.layers:
            tgt = layer(tgt, memory, *masks, bool(tgt_is_causal), memory_is_causal)
        return self._normalized(tgt)


class Transformer(Module):
    """An encoder and a decoder with a norm at the end of each: (S, N, d_model), (T, N, d_model) to (T, N, d_model).

    >>> source, target = np.zeros((5, 3, 8), np.float32), np.zeros((2, 3, 8), np.float32)
    >>> Transformer(8, 2, 1, 1, 16)(source, target).shape
    (2, 3, 8)
    """

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = "relu",
        custom_encoder: Module | None = None,
        custom_decoder: Module | None = None,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        *,
        generator: np.random.Generator | None = None,
        dtype: Any = np.float32,
    ) -> None:
        settings = d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias
        drawn: dict[str, Any] = {"generator": generator, "dtype": dtype}

        def norm() -> Module:
            return LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)

        self.d_model, self.nhead, self.batch_first = d_model, nhead, batch_first
        self.encoder = custom_encoder or TransformerEncoder(
            TransformerEncoderLayer(*settings, **drawn), num_encoder_layers, norm()
        )
        self.decoder = custom_decoder or TransformerDecoder(
            TransformerDecoderLayer(*settings, **drawn), num_decoder_layers, norm()
        )
        for parameter in self.parameters():
            if parameter.ndim > 1:
                xavier_uniform_(parameter, generator=generator)

    def forward(
        self,
        src: Any,
        tgt: Any,
        src_mask: Any = None,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        src_key_padding_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """What the decoder makes of the target and of what the encoder makes of the source."""
        memory = self.encoder(src, src_mask, src_key_padding_mask, src_is_causal)
        masks = tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask
        return self.decoder(tgt, memory, *masks, tgt_is_causal, memory_is_causal)

    @staticmethod
    def generate_square_subsequent_mask(sz: int, dtype: Any = np.float32) -> Array:
        """A mask (sz, sz) of floats to be added: -infinity where a position would look at one behind it, else 0."""
        return np.triu(np.full((sz, sz), -np.inf, dtype), 1)
