"""Bringing challenger and champion to the gates: their files, their answers, their latency."""

import numpy as np

from components.common.canonical import Json
from components.common.errors import StepError
from components.common.refs import CompressedRef, EvaluationRef, SnapshotRef
from components.common.step import StepContext
from components.models.latency import Latency, cpu_model, measure_interleaved
from components.models.onnx_predictor import OnnxPredictor
from components.models.predictor import Predictor
from components.promote.answers import Answers
from components.promote.card import describe_conditions, model_card
from components.promote.config import PromoteConfig
from components.promote.documents import Version
from components.promote.gates import Contender
from components.promote.registry import Registry
from components.promote.serving import labels_text, triton_config
from components.promote.testset import TestImage, answer, test_images

ROUNDS, WARMUP, SECONDS = 5, 3, 1.0

MAX_DISAGREEMENT = 0.02
"""Above this the preprocessing that a version carries is not the one that it was judged with."""


class Contest:
    """One promotion's models. Answers are kept, so that a decision taken anew asks only a new champion."""

    def __init__(
        self, config: PromoteConfig, registry: Registry, snapshot: SnapshotRef, context: StepContext
    ) -> None:
        self._config, self._registry, self._context = config, registry, context
        self._snapshot = snapshot
        self._images: list[TestImage] | None = None
        self._answers: dict[int, Answers] = {}
        self._models: dict[int, tuple[Version, bytes]] = {}
        self._latency: dict[int, Latency] = {}
        self._challenger = 0

    def challenger(self, version: Version, compressed: CompressedRef, evaluation: EvaluationRef) -> Contender:
        """Register the files of the challenger's version, and take its answers and latency."""
        number = version.number
        if number not in self._models:
            path = self._context.scratch / "model.onnx"
            self._context.blobs.fetch(version.spec.model, path)
            self._registry.write_model(version, path)
            self._models[number] = version, path.read_bytes()
            self._challenger = number
            answers = self._ask(number)
            self._check(answers, compressed)
            self._measure([number])
            registry, spec = self._registry, version.spec
            registry.write_text(
                number, f"{registry.name}/config.pbtxt", triton_config(registry.name, number, spec)
            )
            registry.write_text(number, f"{registry.name}/labels.txt", labels_text(spec))
            card = model_card(
                version,
                compressed.candidates,
                evaluation,
                answers,
                self._latency[number],
                describe_conditions(self._conditions()),
                approval=self._config.approval,
            )
            registry.write_text(number, "MODEL_CARD.md", card)
        return self._contender(number)

    def champion(self, number: int) -> Contender:
        """Take the champion's answers, and both models' latency in the same rounds."""
        if number not in self._models:
            version = self._registry.version(number)
            self._models[number] = version, self._registry.read_model(version)
            self._ask(number)
            self._measure([self._challenger, number])
        return self._contender(number)

    def latency_values(self) -> dict[str, Json]:
        """What was measured, by version, with the conditions."""
        by_version: dict[str, Json] = {str(n): latency.to_value() for n, latency in self._latency.items()}
        return {"batch_1": by_version, "conditions": self._conditions()}

    def _contender(self, number: int) -> Contender:
        spec = self._models[number][0].spec
        latency = self._latency[number].p50_ms
        return Contender(spec.classes, spec.size_bytes, self._answers[number], latency)

    def _ask(self, number: int) -> Answers:
        if self._images is None:
            self._images = test_images(self._snapshot, self._context.blobs)
        version, model = self._models[number]
        with self._context.reporter.task(
            f"version {number} on the test split", total=len(self._images), unit="images"
        ) as task:
            (answers,) = answer(
                [Predictor(version.spec, model, threads=self._config.threads)],
                self._images,
                self._context.blobs,
                num_readers=self._config.num_readers,
                task=task,
            )
        self._answers[number] = answers
        return answers

    def _check(self, answers: Answers, compressed: CompressedRef) -> None:
        expected = compressed.chosen_candidate().accuracy
        if len(answers) and abs(answers.accuracy - expected) > MAX_DISAGREEMENT:
            raise StepError(
                "the model answers the original test images otherwise than the shards",
                expected=f"accuracy {expected:.4f}, as when it was compressed",
                found=f"accuracy {answers.accuracy:.4f} with the preprocessing that the version carries",
                todo="this is a fault in Conveyor or in a damaged store: conveyor verify; report it if all is well there",
            )

    def _measure(self, numbers: list[int]) -> None:
        """Latency of one image, all models in the same rounds."""
        calls = {}
        for number in numbers:
            version, model = self._models[number]
            side, channels = version.spec.image_size, version.spec.channels
            predictor = OnnxPredictor(model, threads=self._config.threads)
            image = np.zeros((1, channels, side, side), dtype=np.float32)
            calls[str(number)] = lambda predictor=predictor, image=image: predictor(image)
        found = measure_interleaved(calls, rounds=ROUNDS, warmup=WARMUP, seconds=SECONDS * len(numbers) / 2)
        self._latency |= {int(name): latency for name, latency in found.items()}

    def _conditions(self) -> dict[str, Json]:
        import onnxruntime

        return {
            "threads": self._config.threads,
            "cpu": cpu_model(),
            "onnxruntime": onnxruntime.__version__,
        }
