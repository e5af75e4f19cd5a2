"""Operations of a model as a graph; private."""
