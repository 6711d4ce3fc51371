"""The models where a GPU is: the CPU's numbers, the fused attention kernels, compiled training in bfloat16."""

import pytest
import torch
from small_models import HEADS, build, inputs, main_output
from torch.nn.attention import SDPBackend, sdpa_kernel

if not torch.cuda.is_available():
    pytest.skip("needs a GPU", allow_module_level=True)

TRAINED = [head for head in HEADS if head != "model"]


def on_gpu(head: str) -> dict[str, torch.Tensor]:
    given = {name: value.cuda() for name, value in inputs(head).items()}
    return given | ({"labels": torch.tensor([0, 1]).cuda()} if "classification" in head else {})


def gradients(model: torch.nn.Module, given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    model.zero_grad()
    with torch.autocast("cuda", torch.bfloat16):
        model(**given).loss.backward()
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


@torch.inference_mode()
@pytest.mark.parametrize("head", HEADS)
def test_a_gpu_gives_what_a_cpu_gives(head):
    on_cpu = main_output(build(head)(**inputs(head)))
    given = {name: value.cuda() for name, value in inputs(head).items()}
    torch.testing.assert_close(main_output(build(head).cuda()(**given)).cpu(), on_cpu, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("head", TRAINED)
def test_flash_attention_trains_as_plain_attention_does(head):
    model, given = build(head, attn_implementation="sdpa").cuda(), on_gpu(head)
    with sdpa_kernel(SDPBackend.MATH):
        plain = gradients(model, given)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):  # fails where that kernel cannot run
        flash = gradients(model, given)
    torch.testing.assert_close(flash, plain, atol=2e-2, rtol=5e-2)


@pytest.mark.parametrize("head", TRAINED)
def test_flex_attention_trains_as_sdpa_does(head):
    given = on_gpu(head)
    flex, sdpa = (gradients(build(head, attn_implementation=name).cuda(), given) for name in ("flex_attention", "sdpa"))
    torch.testing.assert_close(flex, sdpa, atol=2e-2, rtol=5e-2)


@pytest.mark.parametrize("head", TRAINED)
def test_compiled_training_in_bfloat16_is_eager_training(head):
    model, given = build(head).cuda(), on_gpu(head)
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True)
    eager = gradients(model, given)
    model.zero_grad()
    with torch.autocast("cuda", torch.bfloat16):
        compiled(**given).loss.backward()
    after = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    torch.testing.assert_close(after, eager, atol=2e-2, rtol=5e-2)
