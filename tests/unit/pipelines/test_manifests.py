"""manifests/ is what the table of steps and the settings say, and what a person changed stays changed."""

from pathlib import Path

import pytest
import yaml

from components.cluster.config import KubernetesConfig, Mount, Resources, TrainingConfig
from components.common.full_disk import DISK_LIMIT, SIZED_AS
from components.common.watch import MARK, MEMORY_LIMIT
from pipelines.cli import invoke
from pipelines.config import read_config
from pipelines.graph import GRAPH, Graph, Step
from pipelines.manifests.names import names_file, overlay_digest
from pipelines.manifests.steps import mpi_objects, step_objects, waits_for
from pipelines.manifests.storage import setup_job
from pipelines.manifests.tree import generated

ROOT = Path(__file__).resolve().parents[3]
TWO_PODS = KubernetesConfig(training=TrainingConfig(pods=2))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    assert invoke(["manifests", str(tmp_path / "manifests")]) == 0
    return tmp_path / "manifests"


def files(root: Path) -> dict[str, str]:
    found = {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}
    found.pop("README.md", None)
    return found


def digest(tree: Path) -> str:
    return overlay_digest(tree / "overlays" / "s3")


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def test_the_committed_files_are_current(tree: Path) -> None:
    assert files(ROOT / "manifests") == files(tree), "run: conveyor manifests"
    assert invoke(["manifests", str(ROOT / "manifests"), "--check"]) == 0


def test_a_new_row_of_the_table_is_a_new_job() -> None:
    audited = GRAPH.with_step(Step("audit", "support.dummy", {"evaluation": "evaluate"}))
    (job,) = yaml.safe_load_all(generated(audited, TWO_PODS)["base/audit.yaml"])
    assert job["metadata"]["name"] == "conveyor-audit"
    assert job["spec"]["template"]["spec"]["initContainers"][-1]["name"] == "wait-for-evaluate"


def test_each_step_waits_for_the_last_of_what_it_needs() -> None:
    assert {step.name: waits_for(GRAPH, step) for step in GRAPH} == {
        "ingest": (),
        "preprocess": ("ingest",),
        "train": ("preprocess",),
        "evaluate": ("train",),
        "compress": ("train",),
        "promote": ("evaluate", "compress"),
    }
    diamond = Graph((Step("a", "p"), Step("b", "p", {"x": "a"}), Step("c", "p", {"x": "a", "y": "b"})))
    assert waits_for(diamond, diamond["c"]) == ("b",)


def test_each_step_has_its_deadline_whatever_the_steps_before_it_need() -> None:
    """All Jobs are there from the start: one deadline for all would fail what waits behind a long training."""
    settings = KubernetesConfig(deadline_s=100, training=TrainingConfig(pods=2))
    found = {}
    for step in GRAPH:
        spec = step_objects(GRAPH, step, settings)[-1]["spec"]
        args = spec["template"]["spec"]["initContainers"][-1]["args"]
        waits = args[args.index("--deadline") + 1] if "--deadline" in args else None
        found[step.name] = (waits, spec["activeDeadlineSeconds"])
    assert found == {
        "ingest": (None, 100),
        "preprocess": ("100", 200),
        "train": ("200", 300),
        "evaluate": ("300", 400),
        "compress": ("300", 400),
        "promote": ("400", 500),
    }
    assert mpi_objects(GRAPH, settings)[0]["spec"]["runPolicy"]["activeDeadlineSeconds"] == 300
    endless = step_objects(GRAPH, GRAPH["promote"], KubernetesConfig(deadline_s=None))[-1]["spec"]
    assert "activeDeadlineSeconds" not in endless
    assert "inf" in endless["template"]["spec"]["initContainers"][-1]["args"]


@pytest.mark.parametrize("name", GRAPH.names())
def test_beside_each_step_runs_one_that_tells_how_it_was_killed(name: str) -> None:
    (*_, job) = step_objects(GRAPH, GRAPH[name], TWO_PODS)
    pod = job["spec"]["template"]["spec"]
    watch = pod["initContainers"][0]
    assert watch["restartPolicy"] == "Always", "else the others would wait for its end"
    assert watch["args"][-1] == "--watch"
    shared = {each["mountPath"]: each["name"] for each in pod["containers"][0]["volumeMounts"]}
    assert {each["mountPath"]: each["name"] for each in watch["volumeMounts"]}["/tmp"] == shared["/tmp"]
    (limit,) = [each["valueFrom"] for each in watch["env"] if each["name"] == MEMORY_LIMIT]
    assert limit["resourceFieldRef"]["containerName"] == pod["containers"][0]["name"]


@pytest.mark.parametrize("name", GRAPH.names())
def test_each_container_of_a_step_s_pod_has_what_the_settings_may_speak_of(name: str) -> None:
    """A certificate for the store, a store in a folder, TMPDIR; and the mark, wherever TMPDIR is."""
    mounts = (
        Mount(name="ca", path="/etc/ca", config_map="ca"),
        Mount(name="scratch", path="/scratch", claim="scratch", read_only=False),
    )
    settings = KubernetesConfig(mounts=mounts, env={"TMPDIR": "/scratch/x"}, training=TWO_PODS.training)
    pods = [step_objects(GRAPH, GRAPH[name], settings)[-1]["spec"]["template"]["spec"]]
    if name == "train":
        pods.append(
            mpi_objects(GRAPH, settings)[0]["spec"]["mpiReplicaSpecs"]["Launcher"]["template"]["spec"]
        )
    for pod in pods:
        for container in [*pod["initContainers"], *pod["containers"]]:
            paths = {each["mountPath"] for each in container["volumeMounts"]}
            assert paths - {"/dev/shm"} == {"/tmp", "/etc/conveyor", "/etc/ca", "/scratch"}
            env = {each["name"]: each for each in container["env"]}
            assert Path(env[MARK]["value"]).parent == Path("/tmp")
            source = env[DISK_LIMIT]["valueFrom"]["resourceFieldRef"]
            assert source["containerName"] == pod["containers"][0]["name"], "not its own"


def test_all_pods_fit_a_small_node_together() -> None:
    """A pod that waits reserves what it will need: were that too much, it could keep out the one that it waits for."""
    cpu = memory = 0
    for step in GRAPH:
        for each in step_objects(GRAPH, step, TWO_PODS):
            if each["kind"] == "Job":
                pod = each["spec"]["template"]["spec"]
                pods = each["spec"].get("parallelism", 1)
                for container in (
                    pod["containers"][0],
                    pod["initContainers"][0],
                ):  # the step, and who watches it
                    requests = container["resources"]["requests"]
                    cpu += pods * int(requests["cpu"].removesuffix("m"))
                    memory += pods * int(requests["memory"].removesuffix("Mi"))
    assert cpu <= 1100
    assert memory <= 4096


def test_resources_that_were_set_are_kept() -> None:
    settings = read_config(
        GRAPH, settings=["kubernetes.resources={train: {cpu: 4, memory: 16Gi}}"]
    ).kubernetes
    (job,) = step_objects(GRAPH, GRAPH["train"], settings)
    requests = job["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]
    assert (requests["cpu"], requests["memory"]) == ("4", "16Gi")


@pytest.mark.parametrize(
    ("given", "requests", "limit"),
    [
        ("{launcher: {memory: 256Mi, cpu: 2}}", ("2", "256Mi"), "256Mi"),
        ("{launcher: {memory: 2Gi}}", ("100m", "2Gi"), "2Gi"),
        ("{train: {memory: 16Gi, cpu: 4}}", ("100m", "512Mi"), "1Gi"),
    ],
)
def test_an_mpi_job_s_launcher_has_resources_of_its_own(
    given: str, requests: tuple[str, str], limit: str
) -> None:
    settings = read_config(GRAPH, settings=[f"kubernetes.resources={given}"]).kubernetes
    replicas = mpi_objects(GRAPH, settings)[0]["spec"]["mpiReplicaSpecs"]
    container = replicas["Launcher"]["template"]["spec"]["containers"][0]
    found = container["resources"]
    assert (found["requests"]["cpu"], found["requests"]["memory"]) == requests
    assert found["limits"]["memory"] == limit
    assert {"name": SIZED_AS, "value": "launcher"} in container["env"], "what to raise where it is killed"


def test_resources_of_the_job_that_makes_buckets_are_kept() -> None:
    text = "kubernetes: {resources: {setup: {memory: 3Gi, cpu_limit: 1}}}"
    pod = setup_job(read_config(GRAPH, text=text).kubernetes)["spec"]["template"]["spec"]
    for container in [*pod["initContainers"], *pod["containers"]]:
        assert container["resources"]["limits"]["memory"] == "3Gi"
        assert container["resources"]["limits"]["cpu"] == "1"
    (small,) = setup_job(KubernetesConfig())["spec"]["template"]["spec"]["containers"]
    assert small["resources"]["limits"]["memory"] == "1Gi"


def test_gpus_that_were_set_are_kept_and_their_nodes_tolerated() -> None:
    own = {"key": "team", "operator": "Exists"}
    settings = KubernetesConfig(
        resources={"train": Resources(gpus=2)}, tolerations=(own,), training=TrainingConfig(pods=2)
    )
    files = generated(GRAPH, settings)
    spec = yaml.safe_load(files["gpu/train.yaml"])["spec"]["template"]["spec"]
    assert [each["key"] for each in spec["tolerations"]] == ["team", "nvidia.com/gpu"]
    assert spec["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": 2}
    # A component without anything in it is an error of kustomize's.
    assert "patches:" in files["gpu-evaluate-compress/kustomization.yaml"]


def test_a_training_of_one_pod_has_no_service_to_take_away() -> None:
    files = generated(GRAPH, KubernetesConfig())
    assert "kind: Service" not in files["base/train.yaml"] + files["mpijob/kustomization.yaml"]
    assert "kind: Service" in generated(GRAPH, TWO_PODS)["mpijob/kustomization.yaml"]


def test_names_follow_settings_image_and_patches_but_no_secret(tree: Path) -> None:
    overlay = tree / "overlays" / "s3"
    seen = {digest(tree)}
    append(overlay / "config.yaml", "train: {epochs: 3}\n")
    seen.add(digest(tree))
    kustomization = overlay / "kustomization.yaml"
    kustomization.write_text(kustomization.read_text().replace("newTag: cpu", "newTag: next"))
    seen.add(digest(tree))
    append(tree / "base" / "train.yaml", "# another template\n")
    seen.add(digest(tree))
    assert len(seen) == 4
    (overlay / "names.yaml").write_text("anything")
    assert digest(tree) in seen
    append(kustomization, "secretGenerator: [{name: conveyor-store, envs: [store.env]}]\n")
    now = digest(tree)
    (overlay / "store.env").write_text("secret-key=x")
    assert digest(tree) == now, "a name must not tell a secret's digest"


def test_an_overlay_of_ones_own_is_renewed_alone(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tree.parent / "mine"
    own.mkdir()
    (own / "kustomization.yaml").write_text(
        "resources: [../manifests/base]\nconfigMapGenerator: [{name: conveyor-config, files: [config.yaml=my.yaml]}]\n"
        "transformers: [names.yaml]\n"
    )
    (own / "my.yaml").write_text("train: {epochs: 1}\n")
    before = files(tree)
    assert invoke(["manifests", str(own)]) == 0
    assert files(tree) == before
    assert (own / "names.yaml").read_text() == names_file(own)
    (own / "my.yaml").write_text("train: {epochs: 2}\n")
    assert invoke(["manifests", str(own), "--check"]) == 2
    assert "mine/names.yaml" in capsys.readouterr().err


def test_what_belongs_to_the_user_stays(tree: Path) -> None:
    config = tree / "overlays" / "s3" / "config.yaml"
    config.write_text("train: {epochs: 7}\n")
    (tree / "base" / "train.yaml").write_text("broken by hand")
    assert invoke(["manifests", str(tree), "--check"]) == 2
    assert invoke(["manifests", str(tree), "--image", "registry.example/conveyor:1"]) == 0
    assert config.read_text() == "train: {epochs: 7}\n"
    assert "image: registry.example/conveyor:1" in (tree / "base" / "train.yaml").read_text()
    assert "newTag" in (tree / "overlays" / "s3" / "kustomization.yaml").read_text()


def test_a_folder_that_has_no_names_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "kustomization.yaml").write_text("resources: []\n")
    assert invoke(["manifests", str(tmp_path)]) == 2
    assert "no names to renew" in capsys.readouterr().err


def test_no_manifest_holds_a_credential(tree: Path) -> None:
    for name, text in files(tree).items():
        assert "kind: Secret\n" not in text, name
        assert "secretGenerator" not in text, name
