"""Configs of self-supervised models."""

from typing import Any

MAE_CFG: dict[str, Any] = {
    "type": "MAE",
    "backbone": {
        "type": "MAEViT",
        "img_size": 12,
        "patch_size": 3,
        "in_channels": 1,
        "embed_dims": 16,
        "num_layers": 1,
        "num_heads": 2,
        "mask_ratio": 0.5,
    },
    "neck": {
        "type": "MAEPretrainDecoder",
        "num_patches": 16,
        "patch_size": 3,
        "in_chans": 1,
        "embed_dim": 16,
        "decoder_embed_dim": 8,
        "decoder_num_heads": 2,
    },
    "head": {"type": "MAEPretrainHead", "patch_size": 3},
}
