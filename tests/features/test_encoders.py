"""Tests of encoders in this process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from llm4rec.core import ModelError
from llm4rec.features import CachedEncoder, Encoder, EncoderConfig, HashEncoder, open_encoder, unit


def test_hashing_counts_words_and_pairs_of_words() -> None:
    same, turned, other, blank, signs = HashEncoder(4096).encode(["Red fox", "fox, RED!", "blue whale", "  ", "?!"])
    assert same @ same == pytest.approx(1)
    assert same @ turned == pytest.approx(2 / 3, abs=1e-6)  # two words of two words and a pair
    assert same @ other == pytest.approx(0, abs=1e-6)
    assert not blank.any()
    assert np.linalg.norm(signs) == pytest.approx(1)


def test_hashing_is_the_same_everywhere() -> None:
    vector = HashEncoder(8).encode(["the cat sat on the mat"])[0]
    assert (vector * np.sqrt(11)).tolist() == pytest.approx([0, 1, 0, 1, -1, -2, 0, -2], abs=1e-5)


@given(st.lists(st.text(max_size=30), max_size=8))
def test_hashing_one_text_at_a_time_changes_nothing(texts: list[str]) -> None:
    encoder = HashEncoder(32)
    vectors = encoder.encode(texts)
    assert vectors.shape == (len(texts), 32)
    assert vectors.dtype == np.float32
    norms = np.linalg.norm(vectors, axis=1)
    for text, vector, norm in zip(texts, vectors, norms, strict=True):
        assert np.array_equal(encoder.encode([text])[0], vector)
        assert norm == pytest.approx(1 if text.strip() else 0, abs=1e-6)


def test_prefix_is_part_of_the_text_and_of_the_identity() -> None:
    plain, prefixed = HashEncoder(64), HashEncoder(64, prefix="query: ")
    assert np.array_equal(prefixed.encode(["fox"]), plain.encode(["query: fox"]))
    assert plain.identity != prefixed.identity


def test_unit_keeps_rows_of_zeros() -> None:
    rows = unit(np.array([[3.0, 4.0], [0.0, 0.0]]))
    assert rows.dtype == np.float32
    assert rows.tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0, 0]]


def test_open_encoder_by_backend(tmp_path: Path) -> None:
    hashed = open_encoder(EncoderConfig(backend="hash", dimension=16))
    assert isinstance(hashed, Encoder)
    assert hashed.dimension == 16
    server = open_encoder(EncoderConfig(backend="server", base_url="http://127.0.0.1:9/v1"), cache=tmp_path / "v.sqlite")
    assert isinstance(server, CachedEncoder)


def test_config_refuses_nonsense() -> None:
    for wrong in (
        {"backend": "server"},
        {"base_url": "http://127.0.0.1/v1"},
        {"dimension": 0},
        {"batch_size": 0},
        {"backend": "magic"},
        {"timeout": 0},
        {"api_key": "secret"},
    ):
        with pytest.raises(ValidationError):
            EncoderConfig.model_validate(wrong)


def test_a_model_that_is_not_there() -> None:
    with pytest.raises(ModelError, match=r"neither an asset nor a folder.*check the name"):
        open_encoder(EncoderConfig(model="no-such/model-of-ours"), cache=None)


def test_a_folder_without_model(tmp_path: Path) -> None:
    (tmp_path / "readme").write_text("nothing")
    encoder = open_encoder(EncoderConfig(model=str(tmp_path)), cache=None)
    with pytest.raises(ModelError, match="cannot load a sentence encoder"):
        encoder.encode(["text"])


def test_importing_the_room_loads_no_heavy_library() -> None:
    code = "import sys, llm4rec.features; print([m for m in ('torch', 'faiss', 'openai', 'transformers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.assets
class TestMiniLM:
    """The real encoder."""

    @pytest.fixture(scope="class")
    def folder(self, asset: Callable[[str], Path]) -> Path:
        return asset("all-MiniLM-L6-v2")

    @pytest.fixture(scope="class")
    def encoder(self, folder: Path) -> Encoder:
        return open_encoder(EncoderConfig(model=str(folder)), cache=None)

    def test_knows_what_words_mean(self, encoder: Encoder) -> None:
        texts = ["A rocket flies to the moon", "Astronauts travel into space", "How to bake sourdough bread", ""]
        vectors = encoder.encode(texts)
        assert vectors.shape == (4, encoder.dimension) == (4, 384)
        assert vectors.dtype == np.float32
        assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1, 1, 0], abs=1e-5)
        likeness = vectors @ vectors.T
        assert likeness[0, 1] > likeness[0, 2] + 0.2

    def test_order_and_batch_do_not_matter(self, encoder: Encoder) -> None:
        texts = ["one", "a much longer text about nothing in particular " * 3, "three", "one"]
        together = encoder.encode(texts)
        alone = np.concatenate([encoder.encode([text]) for text in texts])
        np.testing.assert_allclose(together, alone, atol=2e-6)

    def test_settings_reach_the_model(self, folder: Path) -> None:
        short = open_encoder(EncoderConfig(model=str(folder), max_tokens=4, dimension=64, prefix="a "), cache=None)
        vectors = short.encode(["b c d e f g", "b x y z"])
        assert vectors.shape == (2, 64)
        np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-5)  # [CLS] a b [SEP]
        assert np.linalg.norm(vectors[0]) == pytest.approx(1, abs=1e-5)

    def test_more_dimensions_than_it_has(self, folder: Path) -> None:
        with pytest.raises(ModelError, match="fewer than 1000 dimensions"):
            open_encoder(EncoderConfig(model=str(folder), dimension=1000), cache=None).encode(["x"])
