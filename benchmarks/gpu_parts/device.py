"""The device itself: its name, its driver, and what it can do at the most."""

import platform
import subprocess

import torch

from benchmarks.data import shape
from benchmarks.gpu_parts.part import Report, Settings
from benchmarks.least_work import measure_ceilings
from experiments.run.environment import environment

# Dense bf16 operations per second by NVIDIA's data sheets; the first name that fits counts.
PEAKS = {
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "H200": 989e12,
    "A100": 312e12,
    "L4": 121e12,
}


def measure_device(settings: Settings, report: Report) -> None:
    """Report name, driver, versions, and the measured ceilings."""
    where = environment()
    report(
        device=device_name(settings.device),
        driver=_driver(),
        cuda=torch.version.cuda,
        torch=torch.__version__,
        python=where["python"],
        commit=where["commit"],
        changed=where["dirty"],
        memory_gib=_memory_gib(settings.device),
        peak_flops=peak_flops(settings.device),
    )
    ceilings = measure_ceilings(shape(settings.model), settings.device)
    report(
        **{f"{name}_tflops": flops / 1e12 for name, flops in ceilings.flops.items()},
        gb_per_second=ceilings.bandwidth / 1e9,
    )


def device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else f"cpu ({platform.machine()})"


def peak_flops(device: str) -> float | None:
    """Return the data sheet's bf16 operations per second; None for a device that has none here."""
    name = device_name(device)
    return next((peak for known, peak in PEAKS.items() if known in name), None)


def _memory_gib(device: str) -> float | None:
    if device != "cuda":
        return None
    return round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1)


def _driver() -> str | None:
    """Return the driver's version; None where there is no nvidia-smi to ask."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip().splitlines()[0]
