"""The result of `sagan bench` in words."""

from sagan.runtime.wording import counted


def report(result: dict) -> str:
    """Return the result in words."""
    ceilings = {"float32": result["matmul_gflops"], "bfloat16": result.get("matmul_gflops_bf16")}
    names = {"auto": "this program", "plain": "plain", "mimicry": "torch-mimicry"}
    images, lines = result["batch_size"], []
    for form, times in result["forms"].items():
        low, high = images / times["slowest"], images / times["fastest"]
        lines.append(
            f"  {names.get(form, form):13} {images / times['median']:8.1f} images/s (from {low:.1f} to {high:.1f}, "
            f"{counted(times['rounds'], 'round')})"
        )
    best, most = ceilings[result["precision"]], result["matmul_gflops"]
    lines += [f"  speedup over {names[form]} {result[key]:.2f}" for form in ("plain", "mimicry")
              if (key := f"speedup_over_{form}") in result]  # fmt: skip
    if "gflops" in result:
        lines.append(
            f"  {result['useful_gflop_per_image']:.2f} useful GFLOP an image and step: {result['gflops']:.1f} GFLOP/s, "
            f"plain {result['plain_gflops']:.1f}, which is {result['plain_gflops'] / most:.2f} of the best product or "
            f"convolution in float32 ({most:.0f})"
        )
    if "executed_gflops" in result:
        lines.append(
            f"  {result['executed_gflop_per_image']:.2f} executed: {result['executed_gflops']:.1f} GFLOP/s, which is "
            f"{result['executed_gflops'] / best:.2f} of the best product or convolution in {result['precision']} "
            f"({best:.0f})"
        )
    if "parts" in result:
        whole = sum(result["parts"].values())
        shares = (f"{name} {1e3 * s:.1f} ms ({100 * s / whole:.0f} %)" for name, s in result["parts"].items())
        lines.append(f"  parts, each alone: {', '.join(shares)}")
    return "\n".join(
        [
            f"{result['device']}, {counted(result['threads'], 'thread')}, {result['precision']}, "
            f"{counted(images, 'image')}, torch {result['torch']}, no TF32",
            *lines,
            f"  peak memory {result['peak_memory_gib']:.2f} GiB",
        ]
    )
