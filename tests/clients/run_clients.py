"""Programs of the field that start containers, for real (`make test-clients`): each in its newest version runs a small
piece of work in our containers, as an ordinary user and as its users would have it.

Not collected with the other tests: the programs are fetched from the registry of Python, some minutes the first time.
"""

from __future__ import annotations

import json
import platform
import re
import sys
from typing import TYPE_CHECKING

import machine
import pytest
from python_image import tool as tool

if TYPE_CHECKING:
    from pathlib import Path

    from installed import Client

TOOL = """
cwlVersion: v1.2
class: CommandLineTool
baseCommand: [sh, -c, 'cat /etc/debian_version; cat "$0"; id -u']
requirements:
  DockerRequirement: {dockerPull: "%s"}
inputs:
  message: {type: File, inputBinding: {position: 1}}
outputs:
  said: stdout
stdout: said.txt
"""
WDL = """
version 1.0
task say {
    input { File message }
    command <<< cat /etc/debian_version; cat ~{message} >>>
    output { String said = read_string(stdout()) }
    runtime { docker: "%s" }
}
workflow w {
    input { File message }
    call say { input: message = message }
    output { String said = say.said }
}
"""


def _cwl(client: Client) -> None:
    client.write("message.txt", "from a file\n")
    client.write("tool.cwl", TOOL % f"{client.host}/small/debian:1")


@pytest.mark.client("cwltool")
def test_cwltool(client: Client) -> None:
    _cwl(client)
    done = client("cwltool", "--singularity", "tool.cwl", "--message", "message.txt")
    assert json.loads(done.out)["said"]["class"] == "File"
    lines = (client.home / "said.txt").read_text().splitlines()
    assert lines[0].startswith("12.")
    assert lines[1:] == ["from a file", str(client.launch.account.uid)]


@pytest.mark.client("toil", "toil[cwl]")
def test_toil(client: Client) -> None:
    _cwl(client)
    client("toil-cwl-runner", "--singularity", "--outdir", "out", "tool.cwl", "--message", "message.txt")
    assert (client.home / "out/said.txt").read_text().splitlines()[1] == "from a file"


@pytest.mark.client("miniwdl")
def test_miniwdl(client: Client) -> None:
    client.write("message.txt", "from a file\n")
    client.write("w.wdl", WDL % f"{client.host}/small/debian:1")
    env = {"MINIWDL__SCHEDULER__CONTAINER_BACKEND": "singularity"}
    done = client("miniwdl", "run", "--dir", "out", "w.wdl", "message=message.txt", **env)
    assert json.loads(done.out)["outputs"]["w.said"].endswith("\nfrom a file")


@pytest.mark.client("snakemake")
def test_snakemake(client: Client) -> None:
    text = """
rule all:
    input: "said.txt"
rule say:
    input: "message.txt"
    output: "said.txt"
    container: "%s"
    shell: "cat /etc/debian_version {input} > {output}"
"""
    client.write("message.txt", "from a file\n")
    client.write("Snakefile", text % client.uri)
    client("snakemake", "--cores", "1", "--software-deployment-method", "apptainer")
    lines = (client.home / "said.txt").read_text().splitlines()
    assert (lines[0][:3], lines[1]) == ("12.", "from a file")


@pytest.mark.client("spython", "spython", "pytest")
def test_spython(client: Client) -> None:
    done = client.script(f"""
import os
from spython.main import Client
os.mkdir("pulled")
image = Client.pull({client.uri!r}, pull_folder="pulled")
print(Client.version())
print(Client.execute(image, ["cat", "/etc/debian_version"]))
print(Client.inspect(image)["type"] if "type" in Client.inspect(image) else "inspected")
instance = Client.instance(image, name="spy")
print(Client.execute(instance, ["echo", "in the instance"]))
print([each.name for each in Client.instances()])
instance.stop()
print(Client.instances())
""")
    assert "in the instance" in done.out
    assert "['spy']" in done.out
    assert "12." in done.out


@pytest.mark.client("spython", "spython", "pytest")
def test_spythons_own_tests(client: Client) -> None:
    """All of them. What they fetch from Docker's hub and from GitHub's registry is on the machine: mirrors have it."""
    for scheme, name in (("docker", "hub/library/busybox:1.30.1"), ("oras", "gh/singularityhub/github-ci:latest")):
        done = client.launch("push", "--no-https", client.image, f"{scheme}://{client.host}/{name}")
        assert done.status == 0, str(done)
    client.write(
        ".config/containers/registries.conf",
        "".join(
            f'[[registry]]\nlocation = "{name}"\n'
            f'[[registry.mirror]]\nlocation = "{client.host}/{place}"\ninsecure = true\n'
            for name, place in (("docker.io", "hub"), ("ghcr.io", "gh"))
        ),
    )
    done = client("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--pyargs", "spython.tests")
    assert re.match(r"\d\d passed", done.lines[-1]), str(done)


@pytest.mark.client("datalad-container")
def test_datalad_container(client: Client) -> None:
    client.write(".gitconfig", "[user]\n\tname = Alice\n\temail = alice@example.org\n")
    client("datalad", "create", "data")
    client("datalad", "containers-add", "-d", "data", "small", "--url", client.uri)
    client("datalad", "-C", "data", "containers-run", "-n", "small", "-m", "say", "cp /etc/debian_version said.txt")
    assert (client.home / "data/said.txt").read_text().startswith("12.")


@pytest.mark.client("singularity-compose")
def test_singularity_compose(client: Client) -> None:
    text = """
version: "2.0"
instances:
  app:
    image: %s
    volumes:
      - ./shared:/shared
"""
    client.write("singularity-compose.yml", text % client.image)
    client.write("shared/file", "shared\n")
    client("singularity-compose", "up", "--no-resolv")
    try:
        assert "app1" in client("singularity-compose", "ps").out
        assert "shared" in client("singularity-compose", "exec", "app1", "cat", "/shared/file").out
    finally:
        client("singularity-compose", "down")
    assert json.loads(client.launch("instance", "list", "--json").ok().out) == {"instances": []}


@pytest.mark.client("singularity-hpc")
def test_shpc(client: Client) -> None:
    """A module and its wrapper programs, of an image that the registry has."""
    recipe = """
docker: %s/small/debian
url: https://example.org
maintainer: '@alice'
description: a small Debian
latest: {"1": "%s"}
tags: {"1": "%s"}
aliases: {version: /usr/bin/cat /etc/debian_version}
"""
    inside, digest = client.launch.home_inside, client.digest
    client.write("registry/small/debian/container.yaml", recipe % (client.host, digest, digest))
    client("shpc", "config", "inituser")
    client("shpc", "config", "remove", "registry", "https://github.com/singularityhub/shpc-registry")
    client("shpc", "config", "add", "registry", f"{inside}/registry")
    for name in ("container_base", "module_base", "wrapper_base"):
        client("shpc", "config", "set", f"{name}:{inside}/{name}")
    client("shpc", "install", "--no-view", "small/debian:1")
    wrapper = next(path for path in client.home.rglob("bin/version") if path.is_file())
    done = client.launch.command(inside / wrapper.relative_to(client.home), env={"PATH": client.path})
    assert done.ok().out.startswith("12.")


@pytest.mark.client("hpccm")
def test_hpccm(client: Client) -> None:
    text = """
Stage0 += baseimage(image="%s/small/debian:1", _bootstrap="docker")
Stage0 += shell(commands=["echo made >/made"])
Stage0 += environment(variables={"NAME": "value"})
Stage0 += runscript(commands=["cat /made", "echo $NAME"])
"""
    client.write("recipe.py", text % client.host)
    client.write("x.def", client("hpccm", "--recipe", "recipe.py", "--format", "singularity").out)
    assert client.launch("build", "--no-https", "x.sif", "x.def", timeout=300).status == 0
    assert client.launch("run", "x.sif").ok().out.split() == ["made", "value"]


@pytest.mark.client("boutiques")
def test_boutiques(client: Client) -> None:
    descriptor = {
        "name": "say", "tool-version": "1", "schema-version": "0.5", "description": "says",
        "command-line": "cat [FILE] /etc/debian_version > said.txt",
        "container-image": {"type": "singularity", "image": "small/debian:1", "index": f"docker://{client.host}"},
        "inputs": [{"id": "file", "name": "file", "type": "File", "value-key": "[FILE]"}],
        "output-files": [{"id": "said", "name": "said", "path-template": "said.txt"}],
    }  # fmt: skip
    client.write("say.json", json.dumps(descriptor))
    client.write("message.txt", "from a file\n")
    client.write("call.json", json.dumps({"file": "message.txt"}))
    client("bosh", "exec", "launch", "say.json", "call.json")
    assert (client.home / "said.txt").read_text().startswith("from a file\n12.")


@pytest.mark.client("parsl")
def test_parsl(client: Client) -> None:
    done = client.script(f"""
import parsl
from parsl.configs.local_threads import config

@parsl.bash_app
def say(stdout):
    return "singularity exec {client.image} cat /etc/debian_version"

with parsl.load(config):
    say(stdout="said.txt").result()
print(open("said.txt").read())
""")
    assert done.out.startswith("12.")


@pytest.mark.client("pydra")
def test_pydra(client: Client) -> None:
    client.write("message.txt", "from a file\n")
    text = """
from pydra.engine.environments import Singularity
from pydra.engine.specs import ShellSpec, SpecInfo, File
from pydra.engine.task import ShellCommandTask
import attr
if __name__ == "__main__":
    field = attr.ib(type=File, metadata={"position": 1, "argstr": "", "help_string": "a file", "mandatory": True})
    task = ShellCommandTask(
        name="cat", executable="cat", file="message.txt",
        input_spec=SpecInfo(name="Input", fields=[("file", field)], bases=(ShellSpec,)),
        environment=Singularity(image="%s", tag="1"))
    print(task(plugin="serial").output.stdout)
"""
    assert "from a file" in client.script(text % client.uri.removesuffix(":1")).out


@pytest.mark.client("galaxy-tool-util")
def test_galaxy(client: Client) -> None:
    done = client.script(f"""
from galaxy.tool_util.deps.container_classes import SingularityContainer
from galaxy.tool_util.deps.dependencies import AppInfo
from galaxy.tool_util.deps.container_resolvers import ResolutionCache
print(SingularityContainer.__name__)
import subprocess
from galaxy.tool_util.deps import singularity_util
command = singularity_util.build_singularity_run_command(
    "cat /etc/debian_version", image={str(client.image)!r}, volumes=[], env=[("A", "b")], working_directory="/",
    run_extra_arguments=None, guest_ports=False, container_name=None)
print(command)
print(subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout)
""")
    assert "\n12." in done.out


@pytest.mark.client("styxsingularity")
def test_styxsingularity(client: Client) -> None:
    client.write("message.txt", "from a file\n")
    text = """
from styxdefs import Metadata
from styxsingularity import SingularityRunner
runner = SingularityRunner(data_dir="styx", image_overrides={"small": "%s"})
about = Metadata(id="1", name="cat", package="p", citations=[], container_image_tag="small")
execution = runner.start_execution(about)
said = []
execution.run(["cat", execution.input_file("message.txt"), "/etc/debian_version"], handle_stdout=said.append)
print(said)
"""
    assert "'from a file', '12." in client.script(text % client.uri).out


@pytest.mark.client("streamflow")
def test_streamflow(client: Client) -> None:
    """Its deployment is an instance."""
    client.write("message.txt", "from a file\n")
    client.write("tool.cwl", TOOL.replace('requirements:\n  DockerRequirement: {dockerPull: "%s"}\n', ""))
    client.write("job.yml", "message: {class: File, path: message.txt}\n")
    text = """
version: v1.0
workflows:
  say:
    type: cwl
    config: {file: tool.cwl, settings: job.yml}
    bindings:
      - {step: /, target: {model: small}}
models:
  small:
    type: singularity
    config: {image: %s}
"""
    client.write("streamflow.yml", text % client.image)
    client("streamflow", "run", "--outdir", "out", "streamflow.yml")
    assert next((client.home / "out").rglob("said.txt")).read_text().splitlines()[1] == "from a file"


@pytest.mark.client("nf-core")
def test_nf_core(client: Client) -> None:
    """What `nf-core pipelines download` does with images: pulled, and what it understands of our errors."""
    text = """
import os
from pathlib import Path
from nf_core.pipelines.download.singularity import SingularityFetcher
os.mkdir("cache")
os.environ["NXF_SINGULARITY_CACHEDIR"] = "cache"
fetcher = SingularityFetcher(Path("out"), [], [], container_cache_utilisation="amend", hide_progress=True)
fetcher.check_and_set_implementation()
fetcher.registry_set = set()
with fetcher.progress_factory(disable=True) as fetcher.progress:
    fetcher.pull_image("small/debian:1", Path("out/small.img"), "%(host)s")
    print(Path("out/small.img").stat().st_size > 0)
    try:
        fetcher.pull_image("small/debian:nothere", Path("out/not.img"), "%(host)s")
    except Exception as error:
        print(type(error).__name__, Path("out/not.img").exists())
"""
    done = client.script(text % {"host": client.host})
    assert done.lines == ["True", "InvalidTagError False"]


@pytest.mark.client("cotainr")
def test_cotainr(client: Client) -> None:
    """It packs an environment of conda's, whose servers are not always there; what it asks of us is asked here."""
    assert "singularity 5" in client("cotainr", "info").out
    text = """
from pathlib import Path
from cotainr.container import SingularitySandbox
target = Path("x.sif").absolute()
with SingularitySandbox(base_image="%s") as sandbox:
    sandbox.add_to_env(shell_script="export NAME=value")
    sandbox.run_command_in_container(cmd="touch /made")
    sandbox.add_metadata()
    sandbox.build_image(path=target)
"""
    client.script(text % client.uri)
    assert client.launch("exec", "x.sif", "sh", "-c", "ls /made; echo $NAME").ok().out.split() == ["/made", "value"]


# ---- the examples of docs/python.md: this machine's Python is in the image, what they import is bound into it ----


def _example(client: Client, tool: Path, name: str) -> str:
    """What it prints."""
    site = next((client.environment / "lib").glob("python3.*")) / "site-packages"
    ours = next((client.launch.prefix / "libexec/singularity/python/lib").glob("python3.*")) / "site-packages"
    (client.home / "tool.sif").symlink_to(tool)
    env = {
        "PYTHONPATH": str(ours),
        "SINGULARITY_BIND": f"{site}:/opt/site,/usr/lib/{platform.machine()}-linux-gnu:/opt/lib",
        "SINGULARITYENV_PYTHONPATH": "/opt/site",
        "SINGULARITYENV_LD_LIBRARY_PATH": "/opt/lib",  # those of a wheel, which the image has not all
    }
    return client("python", machine.CHECKOUT / "examples/python" / name, "tool.sif", "3", **env).out


@pytest.mark.client("dask")
def test_dask(client: Client, tool: Path) -> None:
    squares = sum(number * number for number in range(10_000))
    expected = f" parts in Image of a test, Python {sys.version.split()[0]}: {squares}\n"
    assert _example(client, tool, "dask_in_container.py").endswith(expected)


@pytest.mark.client("joblib", "joblib", "cloudpickle")
def test_joblib(client: Client, tool: Path) -> None:
    squares = sum(number * number for number in range(1000))
    said = re.fullmatch(rf"{squares} by ([123]) processes\n", _example(client, tool, "joblib_in_container.py"))
    assert said


@pytest.mark.client("parsl", "parsl", "cloudpickle")
def test_parsl_in_a_container(client: Client, tool: Path) -> None:
    assert _example(client, tool, "parsl_in_container.py") == "10 in Image of a test\n"
