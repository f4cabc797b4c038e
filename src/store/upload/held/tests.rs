use super::*;

#[test]
fn of_parts_that_replace_each_other_the_last_one_counts() {
    let part = |number, seconds, bytes| {
        let time = aws_sdk_s3::primitives::DateTime::from_secs(seconds);
        let part = Part::builder().part_number(number).last_modified(time);
        part.size(bytes).build()
    };
    let parts = latest(vec![
        part(1, 5, 100),
        part(2, 6, 3),
        part(2, 5, 100),
        part(3, 7, 100),
        part(3, 7, 3),
    ]);
    let sizes: Vec<u64> = parts.iter().map(size_of).collect();
    assert_eq!(sizes, [100, 3, 100]);
}

#[test]
fn only_planned_parts_in_a_row_from_the_first_count() {
    const MIB: u64 = 1024 * 1024;
    let plan = PartPlan::new(8 * MIB, 200 << 30, &(5 * MIB..=5 << 30)).expect("fits");
    let (small, large) = (plan.smallest(), parts::marked(20 * MIB));
    let row = |sizes: &[(i32, u64)]| whole_parts(&plan, sizes.iter().copied());
    assert_eq!(row(&[]), (0, 0));
    assert_eq!(row(&[(1, small), (2, small), (3, small)]), (3, 3 * small));
    assert_eq!(row(&[(1, large), (2, large)]), (2, 2 * large));
    for rest in [
        (3, small),
        (2, small - 1),
        (2, large),
        (2, parts::MARK_BYTES),
    ] {
        assert_eq!(row(&[(1, small), rest, (4, small)]), (1, small), "{rest:?}");
    }
    // of an upload that continues an object, of another program, and of an older plan
    for first in [(2, small), (1, 8 * MIB), (1, parts::marked(5 * MIB))] {
        assert_eq!(row(&[first, (2, small)]), (0, 0), "{first:?}");
    }
}
