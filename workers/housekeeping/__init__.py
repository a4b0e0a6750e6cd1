"""What is looked after beside the jobs themselves, by one worker-engine at a time: the leader."""
