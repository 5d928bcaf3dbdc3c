"""Does the memory bank cover what is normal, and are distances those to the nearest neighbour?"""

import numpy as np
import pytest
import torch

from winnow_storage.errors import ModelError
from winnow_workers.models import patchcore


def test_fit_memory_bank__covers_every_cluster() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(10, 80, generator=generator) * 20
    sizes = [500, 5, 5, 5, 5, 5, 5, 5, 5, 5]  # a random choice of 10 would miss the small ones
    patches = torch.cat(
        [centre + torch.randn(size, 80, generator=generator) for centre, size in zip(centres, sizes, strict=True)]
    )
    bank = patchcore.fit_memory_bank(patches, size=10, seed=3)
    assert torch.cdist(bank, centres).argmin(dim=1).sort().values.tolist() == list(range(10))
    assert torch.equal(bank, patchcore.fit_memory_bank(patches, size=10, seed=3))


def test_fit_memory_bank__fewer_patches_than_asked() -> None:
    patches = torch.rand(4, 3)
    assert torch.equal(patchcore.fit_memory_bank(patches, size=10, seed=0), patches)


def test_distance_map__exact_nearest_neighbour() -> None:
    features, bank = torch.rand(5, 3, 4), torch.rand(20, 5)
    distances = patchcore.distance_map(features, bank)
    for row in range(3):
        for column in range(4):
            expected = min(float((features[:, row, column] - one).norm()) for one in bank)
            assert distances[row, column].item() == pytest.approx(expected, abs=1e-6)


def test_distance_map__zero_for_what_is_remembered() -> None:
    features = torch.rand(5, 3, 4) + 1000  # where |a|^2 - 2ab + |b|^2 has no digits left
    assert (patchcore.distance_map(features, patchcore.patch_vectors(features[None])) == 0).all()


def test_image_distance__mean_of_the_farthest() -> None:
    assert patchcore.image_distance(np.array([[0, 1], [2, 6]], np.float32)) == 3.0
    assert patchcore.image_distance(np.array([[5]], np.float32)) == 5.0


@pytest.mark.parametrize(
    ("architecture", "layers", "shape"),
    [
        ("builtin/patch_features", None, (2, 96, 16, 16)),
        ("timm/test_resnet", (1, 2), (2, 80, 16, 16)),
        ("torchvision/resnet18", ("layer1", "layer2"), (2, 192, 16, 16)),
    ],
)
def test_build_backbone__feature_maps(architecture: str, layers: tuple[str | int, ...] | None, shape: tuple) -> None:
    backbone = patchcore.build_backbone(architecture, {}, layers=layers).eval()
    with torch.inference_mode():
        assert backbone(torch.zeros(2, 3, 64, 64)).shape == shape


def test_build_backbone__no_such_layer() -> None:
    with pytest.raises(ModelError, match="no layers"):
        patchcore.build_backbone("torchvision/resnet18", {}, layers=["layer9"])
