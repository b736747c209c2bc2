"""`predictions.parquet`: what the model said about each sample of the split."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.data.index import ShardIndex
from components.models.inference import Outputs
from components.models.metrics import predict_labels, softmax

NAME = "predictions.parquet"


def encode_predictions(outputs: Outputs, index: ShardIndex) -> bytes:
    """Columns key, label, predicted, probabilities (list of K float32) and source, in the order of the index."""
    num, num_classes = outputs.logits.shape if outputs.logits.size else (0, 1)
    probabilities = softmax(outputs.logits).astype(np.float32) if num else np.zeros((0, 1), np.float32)
    table = pa.table(
        {
            "key": pa.array(index.key[outputs.indices].tolist(), pa.string()),
            "label": pa.array(outputs.labels.astype(np.int32)),
            "predicted": pa.array(
                (predict_labels(outputs.logits) if num else outputs.labels).astype(np.int32)
            ),
            "probabilities": pa.FixedSizeListArray.from_arrays(pa.array(probabilities.ravel()), num_classes),
            "source": pa.array(index.source[outputs.indices].tolist(), pa.string()),
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=1 << 16)
    return sink.getvalue()
