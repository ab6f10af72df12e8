"""The course: exercises and their checks, copies for learners, and material for teachers."""
