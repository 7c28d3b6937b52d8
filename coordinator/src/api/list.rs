//! The list of containers: whole, in pages, and watched. From the database and what is known of the nodes; it must never
//! ask one.
//!
//! A page is what comes after a user's name, so whatever is made or destroyed meanwhile, a container that is there all
//! the while is on exactly one page.

use containarium_proto::{error::Refusal, names::Username, v1};

use super::{
    parse::Page,
    refuse::field,
    render, view,
    watch::{News, View},
};
use crate::{reign::Reign, store::Held};

pub(super) async fn page(reign: &Reign, page: &Page) -> Result<v1::ListContainersResponse, Refusal> {
    let mut reader = reign.store.reader().await?;
    let after = page.after.as_ref().map_or("", Username::as_str);
    let size = page.size.unwrap_or(u32::MAX);
    // One more than asked for tells whether there is another page.
    let mut rows = reader.page(after, size.saturating_add(1)).await?;
    let next = cut(&mut rows, size);
    let counted = match page.after.is_some() || next.is_some() {
        true => Some(reader.count_containers().await?),
        false => None,
    };
    drop(reader);
    let containers = rendered(reign, rows);
    let total = counted.map_or(containers.len(), |count| usize::try_from(count).unwrap_or(usize::MAX));
    Ok(v1::ListContainersResponse {
        containers,
        next_page_token: next.map(|user| user.to_string()).unwrap_or_default(),
        total_count: u32::try_from(total).unwrap_or(u32::MAX),
    })
}

fn rendered(reign: &Reign, rows: Vec<Held>) -> Vec<v1::Container> {
    let sights = reign.sights();
    view::principal(rows).into_iter().map(|held| render::container(&view::view(held, &sights))).collect()
}

/// Leaves the rows of the first `size` owners; gives the last of them if there are more.
fn cut(rows: &mut Vec<Held>, size: u32) -> Option<Username> {
    let mut owners = 0;
    let mut last: Option<&Username> = None;
    let surplus = rows.iter().position(|held| {
        let owner = &held.container.owner;
        if last.replace(owner) != Some(owner) {
            owners += 1;
        }
        owners > size
    })?;
    rows.truncate(surplus);
    rows.last().map(|held| held.container.owner.clone())
}

/// The whole list, whenever it differs from what was said last.
pub(super) struct Watched {
    size: Option<u32>,
    said: Option<Vec<v1::Container>>,
}

impl Watched {
    pub(super) fn new(page: &Page) -> Result<Self, Refusal> {
        match &page.after {
            None => Ok(Self { size: page.size, said: None }),
            Some(_) => Err(field("a watch is of the whole list", "leave the page token out")),
        }
    }
}

impl View for Watched {
    type Said = v1::ListContainersResponse;

    async fn news(&mut self, reign: &Reign) -> Result<News<Self::Said>, Refusal> {
        let rows = reign.store.reader().await?.all().await?;
        let containers = rendered(reign, rows);
        if self.said.as_ref() == Some(&containers) {
            return Ok(News::none());
        }
        let said = parts(&containers, self.size);
        self.said = Some(containers);
        Ok(News { said, more: false })
    }
}

/// A list in parts of a size, at least one; all but the last say that there is a next.
fn parts(containers: &[v1::Container], size: Option<u32>) -> Vec<v1::ListContainersResponse> {
    let total_count = u32::try_from(containers.len()).unwrap_or(u32::MAX);
    let size = size.map_or(usize::MAX, |size| usize::try_from(size).unwrap_or(usize::MAX));
    let part = |containers: &[v1::Container]| v1::ListContainersResponse {
        next_page_token: containers.last().map(|container| container.user.clone()).unwrap_or_default(),
        containers: containers.to_vec(),
        total_count,
    };
    let mut parts: Vec<_> = containers.chunks(size).map(part).collect();
    match parts.last_mut() {
        Some(last) => last.next_page_token.clear(),
        None => parts.push(v1::ListContainersResponse::default()),
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::held;

    #[test]
    fn a_page_ends_between_owners() {
        let rows = |owners: &[&str]| -> Vec<Held> { owners.iter().map(|owner| held(owner, "jump-1", 2)).collect() };
        let cases: [(&[&str], u32, usize, Option<&str>); 5] = [
            (&[], 2, 0, None),
            (&["a", "b"], 2, 2, None),
            (&["a", "b", "c"], 2, 2, Some("b")),
            (&["a", "b", "b", "c"], 2, 3, Some("b")),
            (&["a", "a", "b"], 1, 2, Some("a")),
        ];
        for (owners, size, left, next) in cases {
            let mut page = rows(owners);
            let found = cut(&mut page, size);
            assert_eq!((page.len(), found.as_ref().map(Username::as_str)), (left, next), "{owners:?}");
        }
    }

    #[test]
    fn a_watched_list_comes_in_parts_and_an_empty_one_is_said_too() {
        let list: Vec<_> = ["a", "b", "c"].map(|user| v1::Container { user: user.into(), ..Default::default() }).into();
        let shape = |size| -> Vec<(usize, String, u32)> {
            let part = |p: v1::ListContainersResponse| (p.containers.len(), p.next_page_token, p.total_count);
            parts(&list, size).into_iter().map(part).collect()
        };
        assert_eq!(shape(None), [(3, String::new(), 3)]);
        assert_eq!(shape(Some(2)), [(2, "b".into(), 3), (1, String::new(), 3)]);
        assert_eq!(parts(&[], Some(2)), [v1::ListContainersResponse::default()]);
    }
}
