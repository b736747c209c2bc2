"""The whole of a config file: one section a step, and one for the store."""

import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import Field, create_model, field_validator

from components.cluster.config import KubernetesConfig
from components.common.config import StepConfig, unknown_name
from components.common.notify import NotifyConfig
from components.common.store import Store, open_store
from components.common.store.settings import StoreSettings

DEFAULT_STORE = ".conveyor/store"
OTHER_PODS = ("default", "launcher", "report", "setup")
"""What `kubernetes.resources` and `placement` know besides steps; Kubeflow's last task, and the Job that makes buckets."""


class StoreSection(StoreSettings):
    """Where results are kept, and how to reach it. Credentials come from the environment, never from here."""

    url: str = DEFAULT_STORE
    """A folder, `file:///path`, or `s3://bucket/prefix`."""

    def open(self) -> Store:
        return open_store(self.url, self)


class RootBase(StepConfig):
    """What every assembled config has."""

    store: StoreSection = Field(default_factory=StoreSection)
    kubernetes: KubernetesConfig = Field(
        default_factory=KubernetesConfig, description="Steps as pods, where they run on Kubernetes."
    )
    notify: NotifyConfig = Field(
        default_factory=NotifyConfig, description="The webhook that hears how runs end."
    )

    def section(self, name: str) -> Any:
        """The settings of one step."""
        return getattr(self, name)

    @field_validator("kubernetes")
    @classmethod
    def _pods_are_steps(cls, kubernetes: KubernetesConfig) -> KubernetesConfig:
        """A misspelt step would get what it should not have, in silence."""
        steps = sorted(set(cls.model_fields) - set(RootBase.model_fields))
        valid = [*steps, *OTHER_PODS]
        for setting in ("resources", "placement"):
            for name in getattr(kubernetes, setting):
                if steps and name not in valid:
                    raise unknown_name((setting, name), valid)
        return kubernetes


def config_type(package: str, name: str) -> Any:
    """`TrainConfig` of `components.train`: the model is called after the step, in its `config.py`."""
    return getattr(import_module(f"{package}.config"), f"{name.title().replace('_', '')}Config")


def root_model(packages: Mapping[str, str]) -> type[RootBase]:
    """The model of a whole config file, from step name → package."""
    return _root_model(tuple(packages.items()))


@cache
def _root_model(packages: tuple[tuple[str, str], ...]) -> type[RootBase]:
    fields: dict[str, Any] = {}
    for name, package in packages:
        kind = config_type(package, name)
        doc = (kind.__doc__ or name).strip().splitlines()[0]
        fields[name] = (kind, Field(default_factory=kind, description=doc))
    return create_model("Config", __base__=RootBase, __doc__="Settings of the whole pipeline.", **fields)


def known_steps(package: str) -> dict[str, str]:
    """Every step that lives beside `components.common`, and `package`: a step's own command line checks a whole file.

    A wrong setting of the last step is then found by the first one, under any runner.
    """
    family = __name__.partition(".")[0]
    spec = find_spec(family)
    roots = [Path(root) for root in (spec.submodule_search_locations or ())] if spec else []
    found = {}
    for module in pkgutil.iter_modules([str(root) for root in roots]):
        files = [root / module.name / file for root in roots for file in ("config.py", "run.py")]
        if sum(file.is_file() for file in files) == 2:
            found[module.name] = f"{family}.{module.name}"
    return found | {package.rpartition(".")[2]: package}
