"""What several pixel classifiers share: prototypes, teacher, memories, clustering."""
