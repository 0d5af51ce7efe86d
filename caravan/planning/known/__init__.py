"""The shipped table of the commonest models, a module for each kind. Facts only; `caravan.planning.shapes` looks up."""
