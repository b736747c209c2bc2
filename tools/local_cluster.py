#!/usr/bin/env python3
"""A local cluster with Conveyor in it, in one command: `make kind-up`, `make kind-down`.

up       the cluster, the images on its node, the chart with MinIO and the example's data, the pipeline run, its report
run      the pipeline once more
results  what ran, the models, and the latest report as a file
down     all of it away
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from local.cluster import ROOT, provider
from local.installation import Installation
from local.shell import LocalError


def main() -> int:
    arguments = _arguments()
    cluster = provider(arguments.provider, arguments.folder)
    installed = Installation(arguments.namespace, arguments.folder, cluster.env)
    try:
        if arguments.what == "down":
            if not cluster.down():
                installed.remove()
            return 0
        if arguments.what == "up":
            image, minio = (cluster.full_name(each) for each in (arguments.image, arguments.minio))
            cluster.up(image, minio, build=arguments.build)
            installed.install(image, minio, arguments.values)
        if arguments.what != "results":
            installed.run()
        report = installed.results()
    except LocalError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 130
    print(_farewell(report, cluster.env, arguments))
    return 0


def _farewell(report: Path, env: Mapping[str, str], arguments: argparse.Namespace) -> str:
    program = "tools/local_cluster.py"
    more = f" --provider {arguments.provider} --namespace {arguments.namespace}"
    lines = [
        "",
        f"the report          open {report} in a browser",
        f"again               {sys.executable} {program} run{more}",
        f"what is there       kubectl get jobs,pods -n {arguments.namespace}",
        f"all of it away      {sys.executable} {program} down{more}",
    ]
    if env:
        lines.insert(1, f"kubectl's settings  export KUBECONFIG={env['KUBECONFIG']}")
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["up", "run", "results", "down"])
    parser.add_argument(
        "--provider",
        choices=["kind", "current"],
        default="kind",
        help="kind makes a cluster; current takes kubectl's, whose nodes know the images",
    )
    parser.add_argument("--namespace", default="conveyor")
    parser.add_argument(
        "--image",
        default="conveyor:cpu",
        help="built from this work tree (kind); its tag names the variant, such as conveyor:mpi",
    )
    parser.add_argument("--minio", default="minio/minio:local", help="MinIO's image; built as well (kind)")
    parser.add_argument(
        "--no-build",
        action="store_false",
        dest="build",
        help="take both images as the engine has them (kind); otherwise they are built, which its cache makes quick",
    )
    parser.add_argument("--values", type=Path, action="append", default=[], help="more values for the chart")
    parser.add_argument(
        "--folder",
        type=Path,
        default=ROOT / ".conveyor" / "local-cluster",
        help="where the report, and kind's kubeconfig, go",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
