"""Answers to the exercises of notebook 01: (check, answer, words of the property it breaks)."""

import random

import numpy as np
import torch
from torchvision.transforms import v2

from blvnet_lab.course.exercises import (
    check_crop_clip,
    check_flip_clip,
    check_frames_to_decode,
    check_sample_uniform,
)


def frames_counted_twice(wanted, gop):
    return sum(frame % gop + 1 for frame in wanted)


def frames_without_the_keyframe(wanted, gop):
    return len({f for frame in wanted for f in range(frame // gop * gop + 1, frame + 1)})


def frames_without_the_wanted(wanted, gop):
    return len({f for frame in wanted for f in range(frame // gop * gop, frame)})


def frames_of_whole_groups(wanted, gop):
    return len({frame // gop for frame in wanted}) * gop


def frames_from_the_begin(wanted, gop):
    return max(wanted, default=-1) + 1


def frames_wanted_only(wanted, gop):
    return len(set(wanted))


def frames_in_between(wanted, gop):
    return max(wanted) - min(wanted) // gop * gop + 1


def frames_in_order_only(wanted, gop):
    count, last = 0, -1
    for frame in wanted:
        count += max(0, frame - max(frame // gop * gop, last + 1) + 1)
        last = frame
    return count


def frames_last_of_a_group(wanted, gop):
    return sum({frame // gop: frame % gop + 1 for frame in wanted}.values())


def frames_from_the_nearest_keyframe(wanted, gop):
    return len({f for frame in wanted for f in range(round(frame / gop) * gop, frame + 1)})


def frames_all_keyframes_twice(wanted, gop):
    return len(wanted) if gop == 1 else frames_by_groups(wanted, gop)


def frames_of_a_short_video(wanted, gop):
    decoded = [0] * 1000
    for frame in wanted:
        for f in range(frame // gop * gop, frame + 1):
            decoded[f] = 1
    return sum(decoded)


def frames_not_finished(wanted, gop):
    if len(wanted) > 1:
        raise NotImplementedError
    return frames_by_groups(wanted, gop)


def frames_by_groups(wanted, gop):
    furthest = {}
    for frame in wanted:
        furthest[frame // gop] = max(furthest.get(frame // gop, 0), frame % gop + 1)
    return sum(furthest.values())


def frames_by_mask(wanted, gop):
    decoded = torch.zeros(max(wanted, default=0) + 1, dtype=torch.bool)
    for frame in wanted:
        decoded[frame - frame % gop : frame + 1] = True
    return decoded.sum()


def uniform(frame_count, num_frames, place):
    return ((torch.arange(num_frames) + place) * frame_count / num_frames).long()


def uniform_left_edges(frame_count, num_frames, generator=None):
    place = 0.0 if generator is None else torch.rand(num_frames, generator=generator)
    return uniform(frame_count, num_frames, place)


def uniform_rounds(frame_count, num_frames, generator=None):
    place = 0.5 if generator is None else torch.rand(num_frames, generator=generator)
    time = (torch.arange(num_frames) + place) * frame_count / num_frames
    return time.round().long().clamp(max=frame_count - 1)


def uniform_from_end_to_end(frame_count, num_frames, generator=None):
    return torch.linspace(0, frame_count - 1, num_frames).long()


def uniform_whole_segments(frame_count, num_frames, generator=None):
    length = max(1, frame_count // num_frames)
    place = torch.full((num_frames,), length // 2)
    if generator is not None:
        place = torch.randint(length, (num_frames,), generator=generator)
    return (torch.arange(num_frames) * length + place).clamp(max=frame_count - 1)


def uniform_skips_short_videos(frame_count, num_frames, generator=None):
    return uniform_in_segments(frame_count, min(num_frames, frame_count), generator)


def uniform_goes_round(frame_count, num_frames, generator=None):
    if frame_count < num_frames:
        return torch.arange(num_frames) % frame_count
    return uniform_in_segments(frame_count, num_frames, generator)


def uniform_always_random(frame_count, num_frames, generator=None):
    return uniform(frame_count, num_frames, torch.rand(num_frames, generator=generator))


def uniform_never_random(frame_count, num_frames, generator=None):
    return uniform(frame_count, num_frames, 0.5)


def uniform_forgets_the_generator(frame_count, num_frames, generator=None):
    place = 0.5 if generator is None else torch.rand(num_frames)
    return uniform(frame_count, num_frames, place)


def uniform_seeds_itself(frame_count, num_frames, generator=None):
    if generator is None:
        return uniform(frame_count, num_frames, 0.5)
    generator.manual_seed(0)
    return uniform_in_segments(frame_count, num_frames, generator)


def uniform_one_throw(frame_count, num_frames, generator=None):
    place = 0.5 if generator is None else torch.rand(1, generator=generator)
    return uniform(frame_count, num_frames, place)


def uniform_anywhere(frame_count, num_frames, generator=None):
    if generator is None:
        return uniform(frame_count, num_frames, 0.5)
    return torch.randint(frame_count, (num_frames,), generator=generator).sort().values


def uniform_half_a_segment(frame_count, num_frames, generator=None):
    place = 0.5 if generator is None else torch.rand(num_frames, generator=generator) / 2
    return uniform(frame_count, num_frames, place)


def uniform_rounds_twice(frame_count, num_frames, generator=None):
    if generator is None:
        return uniform(frame_count, num_frames, 0.5)
    begin = torch.arange(num_frames) * frame_count // num_frames
    return begin + (torch.rand(num_frames, generator=generator) * frame_count / num_frames).long()


def uniform_of_touched_frames(frame_count, num_frames, generator=None):
    if generator is None:
        return uniform(frame_count, num_frames, 0.5)
    picked = []
    for k in range(num_frames):
        first = k * frame_count // num_frames
        last = -(-(k + 1) * frame_count // num_frames) - 1
        picked.append(torch.randint(first, last + 1, (), generator=generator).item())
    return picked


def uniform_around_the_middle(frame_count, num_frames, generator=None):
    place = 0.5
    if generator is not None:
        place = (0.5 + 0.3 * torch.randn(num_frames, generator=generator)).clamp(0, 0.999)
    return uniform(frame_count, num_frames, place)


def uniform_prints_and_rounds(frame_count, num_frames, generator=None):
    print("frames", frame_count, num_frames)
    return uniform_rounds(frame_count, num_frames, generator)


def uniform_as_floats(frame_count, num_frames, generator=None):
    return uniform_in_segments(frame_count, num_frames, generator).float()


def uniform_in_segments(frame_count, num_frames, generator=None):
    place = 0.5 if generator is None else torch.rand(num_frames, generator=generator)
    return uniform(frame_count, num_frames, place)


def uniform_by_loop(frame_count, num_frames, generator=None):
    picked, length = [], frame_count / num_frames
    for k in range(num_frames):
        place = 0.5 if generator is None else torch.rand((), generator=generator).item()
        picked.append(int(k * length + place * length))
    return picked


def uniform_in_whole_numbers(frame_count, num_frames, generator=None):
    fine = 10_000
    place = torch.full((num_frames,), fine // 2)
    if generator is not None:
        place = torch.randint(fine, (num_frames,), generator=generator)
    return (torch.arange(num_frames) * fine + place) * frame_count // (num_frames * fine)


def window(clip, top, left, size):
    return clip[..., top : top + size[0], left : left + size[1]]


def crop_frame_by_frame(clip, size):
    return torch.stack([v2.RandomCrop(size)(frame) for frame in clip])


def crop_colour_by_colour(clip, size):
    return torch.stack([v2.RandomCrop(size)(colour) for colour in clip.unbind(1)], dim=1)


def crop_swaps_the_sides(clip, size):
    return v2.RandomCrop((size[1], size[0]))(clip)


def crop_centre(clip, size):
    return v2.CenterCrop(size)(clip)


def crop_resizes(clip, size):
    return v2.RandomResizedCrop(size, scale=(0.5, 0.9), antialias=True)(clip)


def crop_forgets_the_last_place(clip, size):
    top = torch.randint(max(1, clip.shape[-2] - size[0]), ())
    left = torch.randint(max(1, clip.shape[-1] - size[1]), ())
    return window(clip, top, left, size)


def crop_rounds(clip, size):
    top, left = (round(torch.rand(()).item() * (clip.shape[i - 2] - size[i])) for i in (0, 1))
    return window(clip, top, left, size)


def crop_draws_one_number(clip, size):
    place = torch.rand(())
    top = int(place * (clip.shape[-2] - size[0] + 1))
    left = int(place * (clip.shape[-1] - size[1] + 1))
    return window(clip, top, left, size)


def crop_seeds_itself(clip, size):
    torch.manual_seed(0)
    return v2.RandomCrop(size)(clip)


def crop_by_numpy(clip, size):
    top = np.random.randint(clip.shape[-2] - size[0] + 1)
    left = np.random.randint(clip.shape[-1] - size[1] + 1)
    return window(clip, top, left, size)


def crop_by_python(clip, size):
    top, left = (random.randint(0, clip.shape[i - 2] - size[i]) for i in (0, 1))
    return window(clip, top, left, size)


def crop_along_time(clip, size):
    top, left = (torch.randint(clip.shape[i - 2] - size[i] + 1, ()) for i in (0, 1))
    return clip[top : top + size[0], :, left : left + size[1]]


def crop_seeds_python(clip, size):
    random.seed(0)
    return v2.RandomCrop(size)(clip)


def crop_seeds_numpy(clip, size):
    np.random.seed(0)
    return v2.RandomCrop(size)(clip)


def crop_of_four_by_six(clip, size):
    top, left = torch.randint(4 - size[0] + 1, ()), torch.randint(6 - size[1] + 1, ())
    return window(clip, top, left, size)


def crop_of_eight_frames(clip, size):
    return v2.RandomCrop(size)(clip)[:8, :3]


def crop_squeezes(clip, size):
    return v2.RandomCrop(size)(clip).squeeze()


def crop_loops_over_colours(clip, size):
    top, left = (torch.randint(clip.shape[i - 2] - size[i] + 1, ()) for i in (0, 1))
    return torch.stack([window(clip[t], top, left, size) for t in range(min(clip.shape[:2]))])


def crop_as_floats(clip, size):
    return v2.RandomCrop(size)(clip).float()


def crop_by_torchvision(clip, size):
    return v2.RandomCrop(size)(clip)


def crop_by_slices(clip, size):
    top, left = (torch.randint(clip.shape[i - 2] - size[i] + 1, ()).item() for i in (0, 1))
    return window(clip, top, left, size)


def crop_by_index(clip, size):
    top = int(torch.rand(()) * (clip.shape[-2] - size[0] + 1))
    left = int(torch.rand(()) * (clip.shape[-1] - size[1] + 1))
    rows, columns = top + torch.arange(size[0]), left + torch.arange(size[1])
    return torch.stack([frame[:, rows][:, :, columns] for frame in clip])


def flip_keeps_the_label(clip, label, mirror):
    return clip.flip(-1), label


def flip_time(clip, label, mirror):
    return flip_what(clip, label, mirror, 0)


def flip_all(clip, label, mirror):
    return flip_what(clip, label, mirror, (0, 1, 2, 3))


def flip_upside_down(clip, label, mirror):
    return flip_what(clip, label, mirror, -2)


def flip_width_and_time(clip, label, mirror):
    return flip_what(clip, label, mirror, (0, -1))


def flip_width_and_height(clip, label, mirror):
    return flip_what(clip, label, mirror, (-2, -1))


def flip_width_and_colours(clip, label, mirror):
    return flip_what(clip, label, mirror, (1, -1))


def flip_takes_0_for_none(clip, label, mirror):
    return (clip.flip(-1), mirror[label]) if mirror[label] else (clip, label)


def flip_forgets_none(clip, label, mirror):
    return clip.flip(-1), mirror[label]


def flip_without_an_image(clip, label, mirror):
    return clip.flip(-1), label if mirror[label] is None else mirror[label]


def flip_only_the_label(clip, label, mirror):
    return clip if label != 2 else clip.flip(-1), label if mirror[label] is None else mirror[label]


def flip_the_partner(clip, label, mirror):
    return clip.flip(-1), label ^ 1


def flip_in_place(clip, label, mirror):
    clip[:] = clip.flip(-1)
    return clip, mirror[label]


def flip_only_the_clip(clip, label, mirror):
    return clip.flip(-1)


def flip_knows_the_list(clip, label, mirror):
    return flip_by_axis(clip, label, [1, 0, 2, None])


def flip_takes_the_last_for_none(clip, label, mirror):
    return (clip, label) if label == len(mirror) - 1 else (clip.flip(-1), mirror[label])


def flip_label_first(clip, label, mirror):
    clip, label = flip_by_axis(clip, label, mirror)
    return label, clip


def flip_as_floats(clip, label, mirror):
    clip, label = flip_by_axis(clip, label, mirror)
    return clip / 1, label


def flip_label_as_float(clip, label, mirror):
    clip, label = flip_by_axis(clip, label, mirror)
    return clip, float(label)


def flip_what(clip, label, mirror, axes):
    if mirror[label] is None:
        return clip, label
    return clip.flip(axes), mirror[label]


def flip_by_torchvision(clip, label, mirror):
    if mirror[label] is None:
        return clip, label
    return v2.functional.horizontal_flip(clip), mirror[label]


def flip_by_index(clip, label, mirror):
    image = mirror[label]
    columns = range(clip.shape[3]) if image is None else range(clip.shape[3] - 1, -1, -1)
    return [clip[:, :, :, list(columns)], label if image is None else image]


def flip_by_axis(clip, label, mirror):
    return flip_what(clip, label, mirror, 3)


WRONG = [
    (check_frames_to_decode, frames_counted_twice, "on the way to two wanted ones is decoded once"),
    (check_frames_to_decode, frames_without_the_keyframe, "both included"),
    (check_frames_to_decode, frames_without_the_wanted, "both included"),
    (check_frames_to_decode, frames_of_whole_groups, "and no further"),
    (check_frames_to_decode, frames_from_the_begin, "nothing before it is needed"),
    (check_frames_to_decode, frames_wanted_only, "from the keyframe to the wanted frame"),
    (check_frames_to_decode, frames_in_between, "in which nothing is wanted"),
    (check_frames_to_decode, frames_in_order_only, "the order of the wanted frames"),
    (check_frames_to_decode, frames_last_of_a_group, "the order of the wanted frames"),
    (check_frames_to_decode, frames_from_the_nearest_keyframe, "even if the next one is nearer"),
    (check_frames_to_decode, frames_all_keyframes_twice, "wanted twice is decoded once"),
    (check_frames_to_decode, frames_of_a_short_video, "runs without an error"),
    (check_frames_to_decode, frames_not_finished, "runs without an error"),
    (check_sample_uniform, uniform_rounds_twice, "every frame of a segment can be drawn"),
    (check_sample_uniform, uniform_of_touched_frames, "every moment of a segment is as likely"),
    (check_sample_uniform, uniform_around_the_middle, "every moment of a segment is as likely"),
    (check_sample_uniform, uniform_prints_and_rounds, "in the middle of each segment"),
    (check_sample_uniform, uniform_left_edges, "in the middle of each segment"),
    (check_sample_uniform, uniform_rounds, "in the middle of each segment"),
    (check_sample_uniform, uniform_from_end_to_end, "in the middle of each segment"),
    (check_sample_uniform, uniform_whole_segments, "cover the whole video"),
    (check_sample_uniform, uniform_skips_short_videos, "still gives T frames"),
    (check_sample_uniform, uniform_goes_round, "still gives T frames, in order"),
    (check_sample_uniform, uniform_always_random, "without a generator"),
    (check_sample_uniform, uniform_never_random, "each call draws anew"),
    (check_sample_uniform, uniform_forgets_the_generator, "chance comes from the generator"),
    (check_sample_uniform, uniform_seeds_itself, "each call draws anew"),
    (check_sample_uniform, uniform_one_throw, "each segment draws for itself"),
    (check_sample_uniform, uniform_anywhere, "lies in its own segment"),
    (check_sample_uniform, uniform_half_a_segment, "every frame of a segment can be drawn"),
    (check_sample_uniform, uniform_as_floats, "whole ones"),
    (check_crop_clip, crop_frame_by_frame, "cut at the same place"),
    (check_crop_clip, crop_colour_by_colour, "cut at the same place"),
    (check_crop_clip, crop_swaps_the_sides, "(height, width) = size"),
    (check_crop_clip, crop_centre, "each call draws another place"),
    (check_crop_clip, crop_resizes, "its pixels are those of the frame"),
    (check_crop_clip, crop_forgets_the_last_place, "up to the last row and column"),
    (check_crop_clip, crop_rounds, "as likely as any other"),
    (check_crop_clip, crop_draws_one_number, "drawn apart"),
    (check_crop_clip, crop_seeds_itself, "each call draws another place"),
    (check_crop_clip, crop_by_numpy, "chance is PyTorch's"),
    (check_crop_clip, crop_by_python, "chance is PyTorch's"),
    (check_crop_clip, crop_along_time, "all frames and colours are there"),
    (check_crop_clip, crop_seeds_python, "Python's and NumPy's chance is left alone"),
    (check_crop_clip, crop_seeds_numpy, "Python's and NumPy's chance is left alone"),
    (check_crop_clip, crop_of_four_by_six, "H and W are those of the clip"),
    (check_crop_clip, crop_of_eight_frames, "all frames and colours are there"),
    (check_crop_clip, crop_squeezes, "all frames and colours are there"),
    (check_crop_clip, crop_loops_over_colours, "all frames and colours are there"),
    (check_crop_clip, crop_as_floats, "pixels stay what they are"),
    (check_flip_clip, flip_knows_the_list, "the label goes with the picture"),
    (check_flip_clip, flip_takes_the_last_for_none, "(None) keeps its label"),
    (check_flip_clip, flip_label_first, "the first of the two things that it returns, clip"),
    (check_flip_clip, flip_as_floats, "the kind of number is right"),
    (check_flip_clip, flip_label_as_float, "a label is a whole number"),
    (check_flip_clip, flip_keeps_the_label, "the label goes with the picture"),
    (check_flip_clip, flip_time, "left and right change places"),
    (check_flip_clip, flip_all, "time runs on as before"),
    (check_flip_clip, flip_upside_down, "left and right change places"),
    (check_flip_clip, flip_width_and_time, "time runs on as before"),
    (check_flip_clip, flip_width_and_height, "above and below stay"),
    (check_flip_clip, flip_width_and_colours, "colours stay"),
    (check_flip_clip, flip_takes_0_for_none, "label 0 is a label like any other"),
    (check_flip_clip, flip_forgets_none, "without a mirror class (None) keeps its label"),
    (check_flip_clip, flip_without_an_image, "without a mirror class (None) is left alone"),
    (check_flip_clip, flip_only_the_label, "the picture goes with the label"),
    (check_flip_clip, flip_the_partner, "its own mirror image keeps its label"),
    (check_flip_clip, flip_in_place, "left as it was"),
    (check_flip_clip, flip_only_the_clip, "two things"),
]

RIGHT = [
    (check_frames_to_decode, frames_by_groups),
    (check_frames_to_decode, frames_by_mask),
    (check_sample_uniform, uniform_in_segments),
    (check_sample_uniform, uniform_by_loop),
    (check_sample_uniform, uniform_in_whole_numbers),
    (check_crop_clip, crop_by_torchvision),
    (check_crop_clip, crop_by_slices),
    (check_crop_clip, crop_by_index),
    (check_flip_clip, flip_by_torchvision),
    (check_flip_clip, flip_by_index),
    (check_flip_clip, flip_by_axis),
]
