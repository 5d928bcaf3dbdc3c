"""Do the deployment files hold together? No engine runs here, so this is their grammar, pins, names and secrets."""

import re
import shlex
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field

from winnow_jobs.spec_source import load_spec

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
COMPOSE = yaml.safe_load((INFRA / "compose.yaml").read_text())
RAY_JOB = yaml.safe_load((INFRA / "kuberay" / "rayjob-demo.yaml").read_text())

PinnedImage = Annotated[str, Field(pattern=r"^[a-z0-9./-]+:v?\d+\.\d+(\.\d+)?[a-z0-9.-]*(@sha256:[0-9a-f]{64})?$")]
Text = Annotated[str, Field(min_length=1)]


def pins(lock: str) -> dict[str, str]:
    return dict(re.findall(r"(?m)^([a-z0-9._-]+)==([^ ;\\]+)", (ROOT / lock).read_text()))


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


# --- compose


class Healthcheck(Closed):
    test: Annotated[list[Text], Field(min_length=2)]
    interval: Annotated[str, Field(pattern=r"^\d+s$")]
    timeout: Annotated[str, Field(pattern=r"^\d+s$")]
    retries: int


class Build(Closed):
    context: Text
    dockerfile: Text


class DependsOn(Closed):
    condition: Literal["service_started", "service_healthy", "service_completed_successfully"]


class Service(Closed):
    image: PinnedImage
    build: Build | None = None
    profiles: list[Text] = []
    entrypoint: list[Text] = []
    command: list[Text] = []
    environment: dict[str, str] = {}  # only text: YAML's own true, 5432 and 1.10 arrive changed
    ports: list[Annotated[str, Field(pattern=r"^127\.0\.0\.1:\d+:\d+$")]] = []
    volumes: list[Annotated[str, Field(pattern=r"^[a-z./-]+:/[a-z./-]+(:ro)?$")]] = []
    healthcheck: Healthcheck | None = None
    depends_on: dict[str, DependsOn] = {}
    init: bool = False
    shm_size: Annotated[str, Field(pattern=r"^\d+(mb|gb)$")] | None = None
    restart: Literal["unless-stopped"] | None = None


@pytest.fixture(scope="module")
def services() -> dict[str, Service]:
    return {name: Service.model_validate(service) for name, service in COMPOSE["services"].items()}


def test_compose__has_the_services_and_nothing_unknown(services: dict[str, Service]) -> None:
    assert {key for key in COMPOSE if not key.startswith("x-")} == {"name", "services", "volumes"}
    assert set(services) == {"store", "bucket", "postgres", "label-studio", "ray", "winnow"}


def test_compose__waits_only_for_what_there_is(services: dict[str, Service]) -> None:
    for name, service in services.items():
        for other, needed in service.depends_on.items():
            assert other in services, f"{name} waits for {other}"
            if needed.condition == "service_healthy":
                assert services[other].healthcheck is not None, (
                    f"{name} waits for {other}, which says nothing of health"
                )


def test_compose__volumes_are_declared_or_in_the_repository(services: dict[str, Service]) -> None:
    mounted = [volume.split(":")[0] for service in services.values() for volume in service.volumes]
    assert {source for source in mounted if not source.startswith(".")} == set(COMPOSE["volumes"])
    for source in mounted:
        assert not source.startswith(".") or (INFRA / source).is_dir()


def test_compose__variables_are_required_and_documented() -> None:
    text = (INFRA / "compose.yaml").read_text()
    used = re.findall(r"(?<!\$)\$(\{[^}]*\}|\w+)", text)
    assert [variable for variable in used if re.fullmatch(r"\{[A-Z0-9_]+:\?[^}]+\}", variable) is None] == []
    documented = re.findall(r"(?m)^([A-Z0-9_]+)=", (INFRA / ".env.example").read_text())
    assert {variable[1:].partition(":")[0] for variable in used} == set(documented)


def test_compose__secrets_come_from_the_environment(services: dict[str, Service]) -> None:
    secret = re.compile(r"^(?!.*_ENABLE_).*(PASSWORD|SECRET_KEY|ACCESS_KEY|TOKEN$)")
    for name, service in services.items():
        for variable, value in service.environment.items():
            if secret.match(variable):
                assert value.startswith("${"), f"{name}: {variable}"
    assert re.findall(r"(?m)^\w*(?:PASSWORD|SECRET_KEY|TOKEN)=(.+)$", (INFRA / ".env.example").read_text()) == []


def test_compose__versions_are_those_of_the_repository(services: dict[str, Service]) -> None:
    assert {services[name].image for name in ("bucket", "ray", "winnow")} == {f"winnow:{VERSION}"}
    locked = pins("infra/label-studio/requirements.lock")["label-studio"]
    assert services["label-studio"].image.rpartition(":")[2] == locked
    build = services["ray"].build
    assert build is not None
    assert (INFRA / build.context / build.dockerfile).is_file()


# --- the image

INSTRUCTIONS = {"FROM", "RUN", "COPY", "ENV", "USER", "WORKDIR", "ENTRYPOINT", "CMD"}


@pytest.fixture(scope="module")
def instructions() -> list[tuple[str, str]]:
    text = (INFRA / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    logical = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(word, rest.strip()) for word, _, rest in (line.strip().partition(" ") for line in logical)]


def allowed_by_dockerignore(source: str) -> bool:
    rules = (INFRA / "Dockerfile.dockerignore").read_text().splitlines()
    return "*" in rules and f"!{source}" in rules


def test_dockerfile__knows_every_instruction(instructions: list[tuple[str, str]]) -> None:
    assert {word for word, _ in instructions} <= INSTRUCTIONS
    assert instructions[0][0] == "FROM"
    assert all(rest for _, rest in instructions)


def test_dockerfile__bases_are_pinned_slim_pythons(instructions: list[tuple[str, str]]) -> None:
    bases = [rest.split()[0] for word, rest in instructions if word == "FROM"]
    assert len(set(bases)) == 1
    assert re.fullmatch(r"python:3\.12\.\d+-slim-[a-z]+", bases[0])


def test_dockerfile__copies_what_there_is(instructions: list[tuple[str, str]]) -> None:
    stages = {rest.split()[-1] for word, rest in instructions if word == "FROM" and " AS " in rest}
    copied = []
    for parts in (shlex.split(rest) for word, rest in instructions if word == "COPY"):
        if parts[0].startswith("--from="):
            assert parts[0].removeprefix("--from=") in stages
            continue
        copied += parts[:-1]
    assert copied != []
    for source in copied:
        assert (ROOT / source).exists(), source
        assert allowed_by_dockerignore(source), source
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert {package.split("/")[0] for package in packages["packages"]} <= set(copied)


def test_dockerfile__installs_only_with_hashes(instructions: list[tuple[str, str]]) -> None:
    runs = [rest for word, rest in instructions if word == "RUN" and "pip install" in rest]
    for run in runs:
        assert "--require-hashes" in run or "--no-deps" in run
    files = [file for run in runs for file in re.findall(r"-r (\S+)", run)]
    assert files == ["infra/setup/requirements.lock", "requirements.lock", "infra/ray/requirements.lock"]
    assert all("--hash=sha256:" in (ROOT / file).read_text() for file in files)


def test_dockerfile__ends_as_an_unprivileged_winnow(instructions: list[tuple[str, str]]) -> None:
    last = dict(instructions)
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", last["USER"])
    assert last["ENTRYPOINT"] == '["winnow"]'


def test_ray_lock__agrees_with_the_main_one() -> None:
    ours, ray = pins("requirements.lock"), pins("infra/ray/requirements.lock")
    assert "aiohttp" in ray  # what ray[default] adds
    assert {name: version for name, version in ray.items() if ours.get(name, version) != version} == {}


# --- KubeRay


class RayGroup(Closed):
    rayStartParams: dict[str, str]
    template: dict[Literal["spec"], dict[str, Any]]


class RayWorkers(RayGroup):
    groupName: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
    replicas: int
    minReplicas: int
    maxReplicas: int


class RayCluster(Closed):
    rayVersion: str
    authOptions: dict[Literal["mode"], Literal["token"]]
    headGroupSpec: RayGroup
    workerGroupSpecs: Annotated[list[RayWorkers], Field(min_length=1)]


class RayJobSpec(Closed):
    entrypoint: str
    backoffLimit: int
    shutdownAfterJobFinishes: Literal[True]
    ttlSecondsAfterFinished: int
    rayClusterSpec: RayCluster


class RayJob(Closed):
    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayJob"]
    metadata: dict[Literal["name"], str]
    spec: RayJobSpec


@pytest.fixture(scope="module")
def cluster() -> RayCluster:
    return RayJob.model_validate(RAY_JOB).spec.rayClusterSpec


def pods(cluster: RayCluster) -> list[dict[str, Any]]:
    return [group.template["spec"] for group in (cluster.headGroupSpec, *cluster.workerGroupSpecs)]


def test_rayjob__runs_the_locked_ray_on_our_image(cluster: RayCluster) -> None:
    assert cluster.rayVersion == pins("requirements.lock")["ray"]
    assert {pod["containers"][0]["image"] for pod in pods(cluster)} == {f"winnow:{VERSION}"}


def test_rayjob__every_container_is_bounded_and_unprivileged(cluster: RayCluster) -> None:
    user = dict(re.findall(r"(?m)^(USER) (\d+)", (INFRA / "Dockerfile").read_text()))["USER"]
    for pod in pods(cluster):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert str(pod["securityContext"]["runAsUser"]) == user
        (container,) = pod["containers"]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert {"cpu", "memory"} <= set(container["resources"]["limits"])
        assert all(isinstance(value, str) for value in container["resources"]["limits"].values())


def test_rayjob__workers_have_a_gpu_and_may_run_where_gpus_are(cluster: RayCluster) -> None:
    (group,) = cluster.workerGroupSpecs
    assert 1 <= group.minReplicas <= group.replicas <= group.maxReplicas
    (container,) = group.template["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert [toleration["key"] for toleration in group.template["spec"]["tolerations"]] == ["nvidia.com/gpu"]
    assert cluster.headGroupSpec.rayStartParams["num-cpus"] == "0"


def test_rayjob__secrets_are_references(cluster: RayCluster) -> None:
    command = (INFRA / "kuberay" / "rayjob-demo.yaml").read_text().partition("apiVersion")[0]
    for pod in pods(cluster):
        for variable in pod["containers"][0]["env"]:
            if variable["name"] == "AWS_DEFAULT_REGION":
                continue
            reference = variable["valueFrom"]["secretKeyRef"]
            assert reference["name"] == "winnow"
            assert f"--from-literal={reference['key']}=" in command


def test_rayjob__mounts_are_volumes(cluster: RayCluster) -> None:
    for pod in pods(cluster):
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        assert {mount["name"] for mount in pod["containers"][0].get("volumeMounts", [])} == volumes


# --- the job and the page


def test_jobs__demo_is_a_valid_spec_that_both_manifests_run(cluster: RayCluster) -> None:
    load_spec(INFRA / "jobs" / "demo.yaml", {"LABEL_STUDIO_TOKEN": "x"})
    command = shlex.split(RAY_JOB["spec"]["entrypoint"])
    assert command[:3] == ["winnow", "run", "/etc/winnow/demo.yaml"]
    (mount,) = cluster.headGroupSpec.template["spec"]["containers"][0]["volumeMounts"]
    assert mount["mountPath"] == "/etc/winnow"
    assert COMPOSE["services"]["winnow"]["volumes"] == ["./jobs:/jobs:ro"]


def test_readme__names_every_file() -> None:
    page = (INFRA / "README.md").read_text()
    for path in INFRA.rglob("*"):
        if path.is_file() and path.name not in {"README.md", ".gitignore", ".env", "Dockerfile.dockerignore"}:
            named = (path.relative_to(INFRA).as_posix(), f"{path.relative_to(INFRA).parts[0]}/")
            assert any(f"`{name}`" in page for name in named), path
