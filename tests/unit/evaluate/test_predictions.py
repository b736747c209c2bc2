"""`predictions.parquet` and the small pictures."""

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from components.common.blobs import Blobs
from components.common.store import open_store
from components.data.index import read_index
from components.evaluate.pictures import picture
from components.evaluate.predictions import encode_predictions
from components.models.inference import Outputs
from support.synthetic_shards import striped_shards


def test_columns_in_index_order_and_the_same_bytes(tmp_path: Path) -> None:
    blobs = Blobs(open_store(str(tmp_path)))
    shards = striped_shards(blobs)
    index = read_index(shards, blobs, "test")
    num, classes = len(index), len(shards.classes)
    logits = np.random.default_rng(0).normal(size=(num, classes)).astype(np.float32)
    outputs = Outputs(logits, index.label, np.arange(num))
    data = encode_predictions(outputs, index)
    assert encode_predictions(outputs, index) == data
    table = pq.read_table(io.BytesIO(data))
    assert table.column_names == ["key", "label", "predicted", "probabilities", "source"]
    assert table["key"].to_pylist() == index.key.tolist()
    assert table["label"].to_pylist() == index.label.tolist()
    assert table["predicted"].to_pylist() == logits.argmax(axis=1).tolist()
    probabilities = np.array(table["probabilities"].to_pylist())
    assert probabilities.shape == (num, classes)
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(num))


def test_picture_of_a_raw_sample_is_the_sample(tmp_path: Path) -> None:
    blobs = Blobs(open_store(str(tmp_path)))
    shards = striped_shards(blobs)
    index = read_index(shards, blobs, "test")
    extension, data = picture(index, 3, blobs, channels=shards.channels)
    assert extension == "png"
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (shards.image_size, shards.image_size)
        assert image.mode == ("L" if shards.channels == 1 else "RGB")
