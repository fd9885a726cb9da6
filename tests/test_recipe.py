"""tools/measure/recipe.py: changes reach the recipe and its model, and nonsense is refused."""

import pytest
from recipe import changed

from vit_tutorial.training import RECIPES

LAPTOP = RECIPES["cifar10-laptop"]


def test_changes_reach_recipe_and_model_in_the_type_of_the_old_value():
    recipe = changed(LAPTOP, ["crop=1", "embed_dim=64", "num_heads=2", "initialise=patches", "flip=False", "ema=0.9"])
    assert (recipe.crop, recipe.initialise, recipe.flip, recipe.ema) == (1, ("patches",), False, 0.9)
    assert (recipe.model.embed_dim, recipe.model.num_heads) == (64, 2)
    assert changed(LAPTOP, []) == LAPTOP and changed(LAPTOP, ["initialise="]).initialise == ()


@pytest.mark.parametrize("change", ["config=1", "model=1", "width=3", "crop=big", "flip=yes", "crop", "embed_dim=65"])
def test_nonsense_is_refused(change):
    with pytest.raises(ValueError, match="expected"):
        changed(LAPTOP, [change])
